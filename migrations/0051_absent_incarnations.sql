-- An incarnation that is not heard of any more is declared gone (DESIGN rules 6 and 9), and what it holds of wallets comes back,
-- whatever the epoch. Signs of life are its calls of lease.lua, heartbeats among them, and its records.
-- Silence is counted in rounds, in which Redis was there to be asked: what the operator did not look at says nothing.

alter table incarnations
  add column silent smallint not null default 0,           -- rounds in a row without a sign of life
  add column silent_since timestamptz,                     -- the first of them
  add column written_off_at timestamptz;                   -- gone, and what it held of wallets has come back
create index incarnations_silent on incarnations (shard) where silent > 0;

-- One round. p_heard: [{"shard", "epoch", "incarnations": […]}] of the shards that were looked at, with who was heard of there.
-- Those silent for p_rounds are declared gone. Answers at most p_limit of:
--   ABSENT  gone, and what it holds of wallets has not come back yet (absent_write_off)
--   BACK    was gone and is heard of: it is a member again of epochs opened from now on, so one has to be opened. It spends
--           nothing older then (rule 7), and what it did not report before is settled.
-- In the common round, where all are heard of that were, nothing is written.
create function incarnations_heard(p_heard jsonb, p_rounds integer, p_limit integer, p_now timestamptz)
returns table (o_shard integer, o_epoch bigint, o_incarnation text, o_what text) language plpgsql as $$
begin
  perform from shard_epochs s join jsonb_to_recordset(p_heard) as x (shard integer, epoch bigint) on x.shard = s.shard
    order by s.shard for share of s;
  create temp table if not exists heard_incarnations (id bigint, epoch bigint, heard boolean) on commit delete rows;
  truncate heard_incarnations;
  insert into heard_incarnations
    select i.id, s.number, x.incarnations ? i.incarnation
      from jsonb_to_recordset(p_heard) as x (shard integer, epoch bigint, incarnations jsonb)
      join shard_epochs s on s.shard = x.shard and s.number = x.epoch
      join incarnations i on i.shard = s.shard and not i.torn and (i.last_epoch is null or i.written_off_at is null or x.incarnations ? i.incarnation);
  perform from incarnations i join heard_incarnations h on h.id = i.id
    where h.heard and (i.silent > 0 or i.last_epoch is not null) or not h.heard and i.last_epoch is null
    order by i.shard, i.incarnation for no key update of i;
  update incarnations i set silent = 0, silent_since = null, written_off_at = null, last_epoch = null,
         first_epoch = case when i.last_epoch is null then i.first_epoch else h.epoch + 1 end
    from heard_incarnations h where h.id = i.id and h.heard and (i.silent > 0 or i.last_epoch is not null);
  update incarnations i set silent = i.silent + 1, silent_since = coalesce(i.silent_since, p_now),
         last_epoch = case when i.silent + 1 >= p_rounds then h.epoch end
    from heard_incarnations h where h.id = i.id and not h.heard and i.last_epoch is null;
  return query
    select i.shard::integer, h.epoch, i.incarnation, case when i.last_epoch is null then 'BACK' else 'ABSENT' end
      from heard_incarnations h join incarnations i on i.id = h.id
     where h.heard and i.first_epoch > h.epoch or i.last_epoch is not null and i.written_off_at is null and i.silent >= p_rounds
     order by i.shard, i.incarnation limit least(greatest(p_limit, 0), 10000);
end $$;

-- What a gone incarnation leased of wallets under the current epoch and did not report is to come back: its ledger leases do so
-- here, Redis's by give_back.lua with `o_spent`, for what was booked is what it is known to have spent. p_held: [{"member",
-- "units": leased less returned}], as Redis says. A line in the audit log for each bucket that had any, once, however often this
-- is called. No row where the epoch is over or the incarnation is not gone.
create function absent_write_off(p_shard integer, p_epoch bigint, p_incarnation text, p_held jsonb, p_now timestamptz)
returns table (o_member text, o_tenant text, o_bucket text, o_spent bigint, o_units bigint) language plpgsql as $$
declare
  i incarnations;
  b record;
  v_lent bigint;
begin
  perform from shard_epochs where shard = p_shard and number = p_epoch for share;
  if not found then return; end if;
  select * into i from incarnations where shard = p_shard and incarnation = p_incarnation and last_epoch is not null for no key update;
  if not found then return; end if;
  for b in select a.id, a.tenant, a.bucket, coalesce(max(x.units), 0) as held, bool_or(l.account is not null and not l.closed) as lent
             from escrow_accounts a
             left join jsonb_to_recordset(p_held) as x (member text, units bigint) on x.member = a.tenant || '|' || a.bucket
             left join ledger_leases l on l.account = a.id and l.epoch = p_epoch and l.incarnation_id = i.id
            where a.wallet and (l.account is not null or (a.tenant, a.bucket) in
                  (select split_part(y.member, '|', 1), split_part(y.member, '|', 2) from jsonb_to_recordset(p_held) as y (member text)))
            group by a.id, a.tenant, a.bucket order by a.tenant, a.bucket loop
    perform from wallets w where w.tenant = b.tenant order by w.currency for no key update;
    perform from escrow_accounts a where a.id = b.id for no key update;
    select coalesce(sum(r.units), 0) into o_spent from usage_records r
     where r.incarnation_id = i.id and r.epoch = p_epoch and r.tenant = b.tenant and b.bucket = any (r.buckets);
    v_lent := coalesce((select l.granted - l.returned from ledger_leases l
                         where l.account = b.id and l.epoch = p_epoch and l.incarnation_id = i.id), 0);
    o_units := greatest(0, v_lent + b.held - o_spent);
    if v_lent > 0 or b.lent then o_spent := o_spent - ledger_lease_close(b.id, p_epoch, i.id, o_spent); end if;
    o_member := b.tenant || '|' || b.bucket; o_tenant := b.tenant; o_bucket := b.bucket;
    if o_units > 0 and not exists (select from audit_log g where g.tenant = b.tenant and g.action = 'wallet.write_off_float'
         and g.details @> jsonb_build_object('incarnation', i.incarnation, 'bucket', b.bucket, 'epoch', p_epoch)) then
      insert into audit_log (at, tenant, actor, action, reason, details)
        values (p_now, b.tenant, 'housekeeper', 'wallet.write_off_float', 'its sidecar is gone and has not reported all of its units',
                jsonb_build_object('bucket', b.bucket, 'epoch', p_epoch, 'units', o_units, 'incarnation', i.incarnation, 'pod', i.pod,
                                   'silent_since', i.silent_since));
    end if;
    return next;
  end loop;
end $$;

create function absent_written_off(p_shard integer, p_incarnation text, p_now timestamptz) returns void language sql as $$
  update incarnations set written_off_at = p_now where shard = p_shard and incarnation = p_incarnation and last_epoch is not null
$$;

-- What of a tenant's wallets is on hold for units that sidecars may have: by meter and epoch, why, and until when at the latest.
-- state: CURRENT (in use), SILENT (as CURRENT, and o_silent members of the epoch have not been heard of since o_since), ENDED.
-- until: null where it is in use.
create function wallet_floats(p_tenant text, p_currency text, p_round interval, p_rounds integer, p_after interval)
returns table (meter text, epoch bigint, units bigint, state text, silent integer, until timestamptz) language sql stable as $$
  select a.name, f.epoch, f.funded + f.lent - f.booked - f.recalled - f.written_off,
         case when f.epoch < s.number then 'ENDED' when q.silent > 0 then 'SILENT' else 'CURRENT' end,
         case when f.epoch < s.number then 0 else q.silent end,
         case when f.epoch < s.number then e.closing_at + p_after when q.silent > 0 then q.since + p_round * p_rounds end
    from escrow_accounts a join tenants t on t.id = a.tenant join shard_epochs s on s.shard = t.shard
    join escrow_floats f on f.account = a.id left join epochs e on e.shard = s.shard and e.number = f.epoch
    cross join lateral (select count(*)::integer as silent, max(i.silent_since) as since from incarnations i
                         where i.shard = s.shard and i.silent > 1 and i.last_epoch is null) q
   where a.tenant = p_tenant and a.wallet and a.held_currency = p_currency
     and f.funded + f.lent > f.booked + f.recalled + f.written_off
   order by a.name, f.epoch
$$;

-- As in 0006, and what comes of an incarnation that was written off is flagged.
create or replace function book_records(p_now timestamptz) returns void language plpgsql
set enable_nestloop = off set jit = off as $$
begin
  with inserted as (
    insert into usage_records (incarnation_id, seq, shard, tenant, meter, units, requests, second, dims, buckets, epoch, flag, booked_at)
      select i.id, s.seq, s.shard, s.tenant, s.meter, s.units, s.requests, to_timestamp(s.second), s.dims::jsonb,
             case when s.buckets = '' then '{}'::text[] else string_to_array(s.buckets, ',') end, s.epoch,
             case when t.id is null then 'unknown-tenant' when n.written_off_at is not null then 'late' end, p_now
        from usage_staging s join staged_incarnations i using (shard, incarnation) join incarnations n on n.id = i.id
        left join tenants t on t.id = s.tenant
       where s.kind = 'U' and s.seq > i.watermark and s.seq <= i.watermark + i.taken
      returning tenant, buckets, epoch, units, requests),
  by_list as (
    select tenant, buckets, epoch, sum(units) as units, sum(requests) as requests from inserted group by 1, 2, 3)
  insert into taken_sums (tenant, bucket, epoch, units, requests)
    select tenant, bucket, epoch, sum(units), sum(requests) from by_list, unnest(buckets) as bucket
     -- Windows shorter than an hour live in Redis alone.
     where right(bucket, 1) = '$' or split_part(bucket, '+', 2)::numeric >= 3600
     group by 1, 2, 3;
  -- Records are a sign of life, in the one row that is written anyway.
  update incarnations i set silent = 0, silent_since = null
    from staged_incarnations s where i.id = s.id and s.taken > 0 and i.silent > 0 and i.last_epoch is null;
end $$;

revoke execute on function incarnations_heard(jsonb, integer, integer, timestamptz), absent_write_off(integer, bigint, text, jsonb, timestamptz),
  absent_written_off(integer, text, timestamptz) from public;
grant execute on function incarnations_heard(jsonb, integer, integer, timestamptz), absent_write_off(integer, bigint, text, jsonb, timestamptz),
  absent_written_off(integer, text, timestamptz) to tallygate_pipeline;
