-- A ledger that is restored from a backup does not know it. What it once told is known outside: Redis, sidecars and running
-- operators have heard how far it was (its mark), and compare (docs/adr/0008-a-restored-ledger.md).

create table ledger_history (
  only_one boolean primary key default true check (only_one),
  id text not null default replace(gen_random_uuid()::text, '-', ''),  -- which ledger: what is known of another says nothing of it
  generation bigint not null default 0,             -- how often it was recovered
  mark bigint not null default 0 check (mark < 9007199254740992),  -- goes up with what others rely on; told outside after the commit
  marked_at timestamptz not null default clock_timestamp(),         -- when the mark last went up
  restored_at timestamptz,                          -- of the last recovery: what the backup knows of ends here,
  recovered_at timestamptz,                         -- and this is when it was recovered
  behind_since timestamptz,                         -- more is known outside: nothing is lent or booked until it is recovered
  behind_reason text
) with (fillfactor = 50);
insert into ledger_history default values;

-- Records that were booked once, by what is known outside, and are not here. Their sidecar sends them again, or nobody can.
create table usage_gaps (
  id bigint generated always as identity primary key,
  shard smallint not null references shard_epochs,
  incarnation text not null,
  first_seq bigint not null,
  last_seq bigint not null,
  found_at timestamptz not null,
  close_at timestamptz not null,                    -- then it is closed, whatever is missing
  lost bigint not null default 0,                   -- records given up
  resolved_at timestamptz,                          -- everything up to last_seq is booked, or given up
  check (first_seq <= last_seq)
);
create unique index usage_gaps_open on usage_gaps (shard, incarnation) where resolved_at is null;

-- Records behind an open gap, until it is resolved: whoever sent them may be gone.
create table usage_parked (
  shard smallint not null,
  incarnation text not null,
  kind "char" not null, seq bigint not null, epoch bigint,
  tenant text, meter text, units bigint, requests bigint, second bigint, dims text, buckets text,
  boot_id text, pod text, software text, detail text,
  primary key (shard, incarnation, seq)
);

-- One step on, in the transaction that others rely on; not where more is known, or it is behind already.
create function ledger_advance(p_generation bigint, p_mark bigint)
returns table (o_id text, o_generation bigint, o_mark bigint, o_behind text) language plpgsql as $$
begin
  update ledger_history set mark = mark + 1, marked_at = clock_timestamp()
   where behind_since is null and (generation, mark) >= (p_generation, p_mark);
  return query select id, generation, mark, behind_reason from ledger_history;
end $$;

-- More is known outside. Said once; true where it is news.
create function ledger_found_behind(p_reason text, p_now timestamptz) returns boolean language plpgsql as $$
begin
  update ledger_history set behind_since = p_now, behind_reason = p_reason where behind_since is null;
  if not found then return false; end if;
  insert into audit_log (at, actor, action, reason) values (p_now, 'operator', 'ledger.found_behind', p_reason);
  return true;
end $$;

-- What Redis and sidecars know of one epoch's bucket. p_seen and p_recalled: what Redis says went in and came back; p_ceiling: the
-- most that sidecars will ever report of it.
create function ledger_recover_float(p_shard integer, p_epoch bigint, p_tenant text, p_bucket text, p_seen bigint, p_recalled bigint,
                                     p_ceiling bigint, p_now timestamptz) returns void language plpgsql as $$
declare
  a escrow_accounts;
begin
  if right(p_bucket, 1) = '$' then
    perform from wallets where tenant = p_tenant order by currency for no key update;
  end if;
  -- Also where the backup does not know its limit yet: once that is published, the whole of it would be sold.
  insert into escrow_accounts (tenant, bucket, name, wallet, window_start, window_end, created_at)
    select p_tenant, p_bucket, case when w.yes then left(p_bucket, -1) else split_part(p_bucket, '@', 1) end, w.yes,
           to_timestamp(w.start_s), to_timestamp(w.start_s + w.length_s), p_now
      from (select right(p_bucket, 1) = '$' as yes,
                   nullif(split_part(split_part(p_bucket, '@', 2), '+', 1), '')::double precision as start_s,
                   nullif(split_part(p_bucket, '+', 2), '')::double precision as length_s) w
     where w.yes or to_timestamp(w.start_s + w.length_s) > p_now - interval '1 minute'
    on conflict (tenant, bucket) do nothing;
  select * into a from escrow_accounts where tenant = p_tenant and bucket = p_bucket for no key update;
  if a.id is null or a.window_end <= p_now - interval '1 minute' then return; end if;
  insert into escrow_floats as f (account, epoch, funded, recalled)
    values (a.id, p_epoch, greatest(p_seen, p_ceiling + p_recalled), p_recalled)
    on conflict (account, epoch) do update
      set funded = greatest(f.funded, p_seen, p_ceiling + greatest(f.recalled, p_recalled) - f.lent),
          recalled = greatest(f.recalled, p_recalled);
  if a.wallet then perform escrow_rehold(a.id); end if;
end $$;

-- Takes a ledger that has gone back into service: what is known outside (p_known) becomes known here. Epochs go on above all that
-- were ever in force, floats hold what Redis acknowledges and sidecars may still report, records that were booked and are not here
-- any more become gaps. A new generation tells everybody. Answers what was done, for people and for the audit log.
-- p_known: {"generation", "mark", "shards": [{"shard", "epoch", "incarnations": {"name": last record},
--   "buckets": [{"epoch", "tenant", "bucket", "funded", "recalled", "ceiling"}]}]}
create function ledger_recover(p_known jsonb, p_wait_s bigint, p_actor text, p_reason text, p_now timestamptz)
returns jsonb language plpgsql as $$
declare
  v_before ledger_history;
  v_after ledger_history;
  v_epochs bigint;
  v_floats bigint := 0;
  v_gaps jsonb;
  r record;
begin
  perform from shard_epochs order by shard for no key update;
  -- Looked at, not locked: whoever books locks the history last, and so does this.
  select * into v_before from ledger_history;
  create temp table known on commit drop as
    select x.shard, x.epoch, x.incarnations, x.buckets from jsonb_to_recordset(p_known -> 'shards')
      as x (shard smallint, epoch bigint, incarnations jsonb, buckets jsonb);

  update epochs e set state = 'closing', closing_at = p_now
    from known k where e.shard = k.shard and e.state = 'open' and e.number < k.epoch;
  insert into epochs (shard, number, state, opened_at, closing_at)
    select k.shard, n, 'closing', p_now, p_now
      from known k join shard_epochs s on s.shard = k.shard, generate_series(greatest(s.number + 1, k.epoch - 1000), k.epoch) n
    on conflict (shard, number) do nothing;
  update shard_epochs s set number = k.epoch, not_before = null, gap_ms = 0
    from known k where k.shard = s.shard and k.epoch > s.number;
  get diagnostics v_epochs = row_count;

  for r in select k.shard, b.* from known k, jsonb_to_recordset(k.buckets)
             as b (epoch bigint, tenant text, bucket text, funded bigint, recalled bigint, ceiling bigint)
            order by b.tenant, b.bucket, b.epoch loop
    perform ledger_recover_float(r.shard, r.epoch, r.tenant, r.bucket, r.funded, r.recalled, r.ceiling, p_now);
    v_floats := v_floats + 1;
  end loop;

  with missing as (
    select k.shard, x.key as incarnation, coalesce(i.watermark, 0) + 1 as first_seq, x.value::bigint as last_seq
      from known k cross join jsonb_each_text(k.incarnations) x
      left join incarnations i on i.shard = k.shard and i.incarnation = x.key
     where x.value::bigint > coalesce(i.watermark, 0)
  ), made as (
    insert into usage_gaps as g (shard, incarnation, first_seq, last_seq, found_at, close_at)
      select shard, incarnation, first_seq, last_seq, p_now, p_now + p_wait_s * interval '1 second' from missing
      on conflict (shard, incarnation) where resolved_at is null
        do update set last_seq = greatest(g.last_seq, excluded.last_seq), close_at = excluded.close_at
      returning shard, incarnation, first_seq, last_seq
  )
  select coalesce(jsonb_agg(jsonb_build_object('shard', shard, 'incarnation', incarnation, 'first', first_seq, 'last', last_seq)
                            order by shard, incarnation), '[]') into v_gaps from made;

  -- What was to be sent to Stripe may have been: a repetition counts once for a day.
  update meter_submissions set unknown_since = coalesce(unknown_since, v_before.marked_at) where state in ('pending', 'sending');
  update ledger_history
     set generation = greatest(generation, (p_known ->> 'generation')::bigint) + 1,
         mark = greatest(mark, (p_known ->> 'mark')::bigint) + 1, behind_since = null, behind_reason = null,
         restored_at = marked_at, recovered_at = p_now, marked_at = clock_timestamp()
   returning * into v_after;
  insert into audit_log (at, actor, action, reason, details)
    values (p_now, p_actor, 'ledger.recover', p_reason, jsonb_build_object('generation', v_after.generation, 'mark', v_after.mark,
            'mark_restored', v_before.mark, 'mark_known', p_known ->> 'mark', 'found', v_before.behind_reason, 'gaps', v_gaps));
  return jsonb_build_object('generation', v_after.generation, 'mark_restored', v_before.mark, 'mark_known', (p_known ->> 'mark')::bigint,
                            'epochs', v_epochs, 'floats', v_floats, 'gaps', v_gaps);
end $$;

-- Gives up an incarnation's records up to p_upto, with a line in the audit log: what comes after them can be booked. One that this
-- ledger has never heard of, its hello among what is lost, is registered.
create function give_up_records(p_gap usage_gaps, p_upto bigint, p_why text, p_now timestamptz) returns void language plpgsql as $$
declare
  v_number bigint;
  v_watermark bigint;
begin
  select number into v_number from shard_epochs where shard = p_gap.shard for share;
  insert into incarnations (shard, incarnation, first_epoch, boot_id, pod, software, registered_at)
    values (p_gap.shard, p_gap.incarnation, v_number, '', '', '', p_now) on conflict (shard, incarnation) do nothing;
  select watermark into v_watermark from incarnations where shard = p_gap.shard and incarnation = p_gap.incarnation for no key update;
  if v_watermark >= p_upto then return; end if;
  update incarnations set watermark = p_upto where shard = p_gap.shard and incarnation = p_gap.incarnation;
  update usage_gaps set lost = lost + p_upto - v_watermark where id = p_gap.id;
  insert into audit_log (at, actor, action, reason, details)
    values (p_now, 'operator', 'usage.gap_closed', p_why, jsonb_build_object('shard', p_gap.shard, 'incarnation', p_gap.incarnation,
            'first', v_watermark + 1, 'last', p_upto, 'records', p_upto - v_watermark));
end $$;

-- Resolves the gaps that can be: filled, given up by their sidecar (p_first: {"shard/incarnation": the first record that it can
-- still send}), or waited for long enough. Answers how many are open, and how many records are parked.
create function tend_gaps(p_first jsonb, p_now timestamptz, out o_open bigint, out o_parked bigint, out o_lost bigint)
language plpgsql as $$
declare
  g usage_gaps;
  v_first bigint;
  v_parked bigint;
begin
  for g in select * from usage_gaps where resolved_at is null order by shard, incarnation loop
    v_first := (p_first ->> (g.shard || '/' || g.incarnation))::bigint;
    if v_first > 1 then
      perform give_up_records(g, least(v_first - 1, g.last_seq), 'its sidecar does not have them any more', p_now);
    end if;
    if g.close_at <= p_now then
      -- What is parked goes on from where it begins; the rest of the gap has nobody.
      select min(p.seq) into v_parked from usage_parked p join incarnations i using (shard, incarnation)
       where p.shard = g.shard and p.incarnation = g.incarnation and p.seq > i.watermark;
      perform give_up_records(g, least(g.last_seq, coalesce(v_parked - 1, g.last_seq)), 'nobody has sent them again in time', p_now);
    end if;
    update usage_gaps t set resolved_at = p_now from incarnations i
     where t.id = g.id and i.shard = g.shard and i.incarnation = g.incarnation and i.watermark >= g.last_seq;
  end loop;
  -- What is parked behind no gap, and continues nothing, waits for records that were never booked. A sidecar that is there sends all of
  -- them again; of one that is gone a person may look at them. Nobody else's usage waits for that.
  with stranded as (
    delete from usage_parked p
     where not exists (select from usage_gaps u
                        where u.shard = p.shard and u.incarnation = p.incarnation and u.resolved_at is null)
       and not exists (select from usage_parked f join incarnations i using (shard, incarnation)
                        where f.shard = p.shard and f.incarnation = p.incarnation and f.seq <= i.watermark + 1)
    returning p.*
  ), aside as (
    insert into quarantined_records (shard, stream_id, raw, error, quarantined_at)
      select shard, 'parked', convert_to(to_jsonb(s)::text, 'UTF8'), 'records before it are missing, and nobody has sent them', p_now
        from stranded s on conflict do nothing
  )
  insert into audit_log (at, actor, action, reason, details)
    select p_now, 'operator', 'usage.put_aside', 'records before them are missing, and nobody has sent them',
           jsonb_build_object('shard', shard, 'incarnation', incarnation, 'first', min(seq), 'last', max(seq), 'records', count(*))
      from stranded group by shard, incarnation;
  select count(*) filter (where resolved_at is null), coalesce(sum(lost), 0) into o_open, o_lost from usage_gaps;
  select count(*) into o_parked from usage_parked;
end $$;

-- In book()'s transaction, before book_batch: parked records that continue a watermark come back to the staging table.
create function unpark_usage() returns void language plpgsql as $$
begin
  with due as (
    delete from usage_parked p using (
      -- The run that continues the watermark: what lies behind a further hole stays.
      select x.shard, x.incarnation, x.seq
        from (select u.shard, u.incarnation, u.seq, coalesce(i.watermark, 0) as watermark,
                     row_number() over (partition by u.shard, u.incarnation, u.seq <= coalesce(i.watermark, 0) order by u.seq) as n
                from usage_parked u left join incarnations i using (shard, incarnation)) x
       where x.seq <= x.watermark or x.seq = x.watermark + x.n
       order by x.shard, x.incarnation, x.seq limit 10000) d
     where p.shard = d.shard and p.incarnation = d.incarnation and p.seq = d.seq returning p.*
  )
  insert into usage_staging (shard, incarnation, kind, seq, epoch, tenant, meter, units, requests, second, dims, buckets, boot_id,
                             pod, software, detail)
    select shard, incarnation, kind, seq, epoch, tenant, meter, units, requests, second, dims, buckets, boot_id, pod, software, detail
      from due;
end $$;

-- After it: what lies behind an open gap is kept, for the stream forgets it now.
create function park_usage() returns void language plpgsql as $$
begin
  insert into usage_parked (shard, incarnation, kind, seq, epoch, tenant, meter, units, requests, second, dims, buckets, boot_id, pod,
                            software, detail)
    select s.shard, s.incarnation, s.kind, s.seq, s.epoch, s.tenant, s.meter, s.units, s.requests, s.second, s.dims, s.buckets,
           s.boot_id, s.pod, s.software, s.detail
      from usage_staging s
      join usage_gaps g on g.shard = s.shard and g.incarnation = s.incarnation and g.resolved_at is null
      left join incarnations i on i.shard = s.shard and i.incarnation = s.incarnation
     where s.seq > coalesce(i.watermark, 0)
    on conflict do nothing;
end $$;

-- What may be lent of an account. A ledger that has gone back lends nothing: it would lend what is spent already. An error, for that
-- is no DRY: sidecars take the ledger for away.
create or replace function lendable(p_account bigint, p_now timestamptz) returns bigint language plpgsql stable as $$
begin
  if exists (select from ledger_history where behind_since is not null) then
    raise exception 'the ledger has gone back to a backup and is not recovered yet' using errcode = 'cannot_connect_now';
  end if;
  return coalesce((select available(a.id, p_now) from escrow_accounts a
                    where a.id = p_account and (a.window_end is null or a.window_end > p_now - interval '1 minute')), 0);
end $$;

-- Of a minute that is older than the last recovery, Stripe may have revisions that this ledger does not know. The first one that is
-- formed anew has the number, and so the identifier, that the lost ledger went on with: Stripe takes one of the two. Those after it
-- are of usage that came later, and are told apart by the generation: then the answer is that; 0 else.
create function revision_recovered(a usage_aggregates) returns bigint language sql stable as $$
  select coalesce((select h.generation from ledger_history h
                    where a.minute < h.recovered_at and a.created_at >= h.recovered_at
                      and exists (select from usage_aggregates b
                                   where b.tenant = a.tenant and b.meter = a.meter and b.minute = a.minute and b.revision < a.revision
                                     and b.created_at >= h.recovered_at)), 0)
$$;

-- As in 0010; and of what a lost ledger may have sent nobody knows whether it did, since the backup (refuse_to_send).
create or replace function enqueue_submissions(p_rows jsonb, p_now timestamptz) returns bigint language plpgsql as $$
declare
  v_new bigint;
begin
  with new_rows as (
    insert into meter_submissions (aggregate_id, identifier, tenant, meter, event_name, stripe_customer_id, value, event_time,
                                   state, last_error, next_attempt_at, created_at, unknown_since)
      select x.aggregate_id, x.identifier, x.tenant, x.meter, x.event_name, x.customer, x.value, to_timestamp(x.event_time),
             case when x.held = '' then 'pending' else 'held' end, x.held, p_now, p_now,
             (select h.restored_at from ledger_history h where to_timestamp(x.event_time) < h.recovered_at and not x.is_later)
        from jsonb_to_recordset(p_rows) as x (aggregate_id bigint, identifier text, tenant text, meter text, event_name text,
             customer text, value bigint, event_time bigint, held text, is_later boolean) order by x.aggregate_id
      on conflict (aggregate_id) do nothing returning aggregate_id
  )
  select count(*) into v_new from new_rows;
  update usage_aggregates set outboxed = true
   where id in (select aggregate_id from jsonb_to_recordset(p_rows) as x (aggregate_id bigint)) and not outboxed;
  return v_new;
end $$;

select secure_tables();
grant select on ledger_history to tallygate_api;
create policy everybody on ledger_history for select to tallygate_api using (true);
revoke execute on function ledger_found_behind(text, timestamptz), ledger_recover(jsonb, bigint, text, text, timestamptz),
  give_up_records(usage_gaps, bigint, text, timestamptz), tend_gaps(jsonb, timestamptz), ledger_advance(bigint, bigint) from public;
grant execute on function ledger_found_behind(text, timestamptz), ledger_recover(jsonb, bigint, text, text, timestamptz),
  give_up_records(usage_gaps, bigint, text, timestamptz), tend_gaps(jsonb, timestamptz), ledger_advance(bigint, bigint)
  to tallygate_pipeline;
