-- What was reported wrongly is corrected: usage that an app reported (direct_usage) counts as what it should have been, from
-- its own second on. A correction is a record like any other, of the difference, so that quotas, wallets, aggregates and
-- Stripe follow as they follow usage.

create table usage_corrections (
  tenant text not null references tenants,
  correction_id text not null check (length(correction_id) between 1 and 255),
  corrects text not null,
  fingerprint text not null,                        -- of the request
  meter text not null,
  second timestamptz not null,                      -- of the usage
  units bigint not null check (units >= 0),         -- what the usage counts as from here on
  previous_units bigint not null,                   -- what it counted as before
  reason text not null,
  actor text not null,
  seq bigint unique,                                -- of its record; null where it changed nothing
  booked_at timestamptz not null,
  primary key (tenant, correction_id),
  foreign key (tenant, corrects) references direct_usage
);
create index usage_corrections_of on usage_corrections (tenant, corrects);
create trigger usage_corrections_append_only before update or delete or truncate on usage_corrections
  for each statement execute function refuse_change();

-- Units that corrections have taken off: booked + corrected only grows, and so tells each charge from every other.
alter table escrow_accounts add column corrected bigint not null default 0 check (corrected >= 0);

-- Takes p_cost (below zero: gives it back) for p_units of an account from its wallet and posts it, once per p_source.
create function post_usage(p_account escrow_accounts, p_units numeric, p_currency text, p_cost bigint, p_source text, p_correction text,
    p_now timestamptz, out o_transfer bigint, out o_balance_micros bigint) language plpgsql as $$
begin
  insert into wallets (tenant, currency) values (p_account.tenant, p_currency) on conflict do nothing;
  update wallets set balance_micros = balance_micros - p_cost where tenant = p_account.tenant and currency = p_currency
    returning balance_micros into o_balance_micros;
  insert into ledger_transfers (kind, source, memo, posted_at, tenant)
    values ('wallet_usage', p_source, format('%s units of %s', p_units, p_account.name) || coalesce(': ' || p_correction, ''), p_now,
            p_account.tenant)
    on conflict (source) do nothing returning id into o_transfer;
  if o_transfer is null then return; end if;
  insert into ledger_postings (transfer, account, amount)
    values (o_transfer, ledger_account(p_account.tenant, 'wallet', p_currency), -p_cost),
           (o_transfer, ledger_account(null, 'revenue', p_currency), p_cost);
end $$;

-- Charges a wallet account for p_units more, or gives back what −p_units fewer cost: R(after) − R(before) at the prices in
-- force. p_correction is why, null for usage. The wallet and the account are locked.
create function charge_usage(p_account bigint, p_units numeric, p_source text, p_correction text, p_now timestamptz) returns void
language plpgsql as $$
declare
  a escrow_accounts;
  m tenant_meters;
  v_cost bigint := 0;
begin
  select * into a from escrow_accounts where id = p_account;
  select * into m from tenant_meters where tenant = a.tenant and meter = a.name and settlement = 'wallet';
  if found then
    v_cost := bounded(rated(m.tiers, m.per_units, a.booked + p_units) - rated(m.tiers, m.per_units, a.booked));
  end if;
  update escrow_accounts set booked = bounded(booked + p_units), corrected = bounded(corrected + greatest(0, -p_units)) where id = a.id;
  if v_cost <> 0 then perform post_usage(a, p_units, m.currency, v_cost, p_source, p_correction, p_now); end if;
  perform escrow_rehold(a.id);
end $$;

create or replace function book_wallet(p_account bigint, p_units numeric, p_now timestamptz) returns void language sql as $$
  select charge_usage(a.id, p_units, format('wallet_usage/%s/%s', a.id, a.booked + a.corrected), null, p_now)
    from escrow_accounts a where a.id = p_account
$$;

-- Books one correction, once by its id; those of one usage wait for each other. Statuses:
--   new, duplicate        done, now or before: the other columns tell what
--   mismatch              its id was used for another correction
--   unknown               the tenant reported no usage under this id
--   too_old               p_oldest is after the usage: it cannot be billed any more
--   settled_otherwise     the meter was settled by another (the wallet, an invoice, nobody) then than it is now
create function correct_usage(p_tenant text, p_shard integer, p_id text, p_fingerprint text, p_corrects text, p_units bigint,
    p_reason text, p_actor text, p_request_id text, p_oldest timestamptz, p_now timestamptz,
    out o_status text, out o_meter text, out o_units bigint, out o_previous_units bigint, out o_second timestamptz)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  u direct_usage;
  r usage_records;
  c usage_corrections;
  a record;
  v_difference bigint;
begin
  perform require_own_tenant(p_tenant);
  select * into u from direct_usage where tenant = p_tenant and request_id = p_corrects for no key update;
  select * into c from usage_corrections where tenant = p_tenant and correction_id = p_id;
  if c.fingerprint <> p_fingerprint then o_status := 'mismatch'; return; end if;
  if u.seq is null then o_status := 'unknown'; return; end if;
  if c.correction_id is not null then
    o_status := 'duplicate'; o_meter := c.meter; o_units := c.units; o_previous_units := c.previous_units; o_second := c.second;
    return;
  end if;
  -- Its record is of at most 35 days before it was booked and 5 minutes after: few partitions are looked at.
  select * into r from usage_records where incarnation_id = 0 and seq = u.seq
     and second between u.booked_at - interval '36 days' and u.booked_at + interval '1 hour';
  if r.seq is null or r.second < p_oldest then o_status := 'too_old'; return; end if;
  if (r.meter || '$' = any (r.buckets)) <>
     exists (select from tenant_meters m where m.tenant = p_tenant and m.meter = r.meter and m.settlement = 'wallet')
     or exists (select from usage_aggregates x left join tenant_meters m on m.tenant = x.tenant and m.meter = x.meter
                 where x.id = r.aggregate_id and x.settlement <> coalesce(m.settlement, 'invoice')) then
    o_status := 'settled_otherwise';
    return;
  end if;
  o_meter := r.meter; o_second := r.second; o_units := p_units;
  o_previous_units := r.units + (select coalesce(sum(x.units - x.previous_units), 0)
                                   from usage_corrections x where x.tenant = p_tenant and x.corrects = p_corrects);
  v_difference := o_units - o_previous_units;
  insert into usage_corrections (tenant, correction_id, corrects, fingerprint, meter, second, units, previous_units, reason, actor,
                                 seq, booked_at)
    values (p_tenant, p_id, p_corrects, p_fingerprint, r.meter, r.second, o_units, o_previous_units, p_reason, p_actor,
            case when v_difference <> 0 then nextval('direct_usage_seq') end, p_now)
    on conflict (tenant, correction_id) do nothing returning * into c;
  if c.correction_id is null then  -- at this moment, for other usage
    o_status := 'mismatch';
    return;
  end if;
  o_status := 'new';
  insert into audit_log (at, tenant, actor, action, reason, request_id, details)
    values (p_now, p_tenant, p_actor, 'usage.correct', p_reason, p_request_id,
            jsonb_build_object('correction', p_id, 'corrects', p_corrects, 'meter', r.meter, 'units', o_units,
                               'previous_units', o_previous_units, 'second', r.second));
  if v_difference = 0 then return; end if;
  insert into usage_records (incarnation_id, seq, shard, tenant, meter, units, requests, second, dims, buckets, epoch, booked_at)
    values (0, c.seq, p_shard, p_tenant, r.meter, v_difference, 0, r.second, r.dims, r.buckets, 0, p_now);
  perform from wallets where tenant = p_tenant order by currency for no key update;
  for a in select e.id, e.wallet, e.name from escrow_accounts e where e.tenant = p_tenant and e.bucket = any (r.buckets)
            order by e.bucket for no key update loop
    if a.wallet then
      perform charge_usage(a.id, v_difference, format('usage_correction/%s/%s', p_tenant, p_id), p_reason, p_now);
    else
      -- A grace period that began with usage that was none has not begun.
      update escrow_accounts e
         set booked = bounded(e.booked + v_difference), corrected = bounded(e.corrected + greatest(0, -v_difference)),
             crossed_at = case when l.cap = 'soft' and e.booked + v_difference > l.amount then coalesce(e.crossed_at, p_now) end
        from (select 1) one left join tenant_limits l on l.tenant = p_tenant and l.limit_name = a.name
       where e.id = a.id;
    end if;
  end loop;
end $$;

-- Where a negative aggregate goes at Stripe, and why it may not go there yet ('': it may). Meter events take negative values,
-- but a period's sum below zero is invoiced as zero, and what is invoiced never changes. So it is sent for its own minute,
-- once as much as it takes off was delivered for that minute; and where the minute's billing period is over, for the current
-- one, once as much was delivered in that. What is on its way to take off counts as taken off.
create function correction_target(p_tenant text, p_meter text, p_minute timestamptz, p_units bigint, p_now timestamptz,
    out o_customer text, out o_event_time timestamptz, out o_held text) language plpgsql stable as $$
declare
  v_period timestamptz := (select max(s.current_period_start) from subscriptions s
    where s.tenant = p_tenant and s.canceled_at is null and s.current_period_start <= p_now);
  v_closed boolean := coalesce(p_minute < date_trunc('minute', v_period, 'UTC'), false);
begin
  o_event_time := case when v_closed then date_trunc('minute', p_now, 'UTC') else p_minute end;
  select s.stripe_customer_id into o_customer
    from meter_submissions s join usage_aggregates a on a.id = s.aggregate_id
   where s.tenant = p_tenant and s.meter = p_meter
     and s.event_time between coalesce(v_period, p_minute) and case when v_period is null then p_minute else p_now + interval '1 hour' end
     and (s.state = 'delivered' or (s.value < 0 and s.state in ('pending', 'sending')))
   group by s.stripe_customer_id
  having sum(s.value) + p_units >= 0 and (v_closed or sum(s.value) filter (where a.minute = p_minute) + p_units >= 0)
   order by sum(s.value) desc limit 1;
  o_held := case when o_customer is not null then ''
                 when v_closed then 'the corrected usage is invoiced: taken off once the current period has as much'
                 else 'waits until the usage that it corrects is delivered' end;
end $$;
create index meter_submissions_event_time on meter_submissions (tenant, meter, event_time);

select secure_tables();
grant select on usage_corrections to tallygate_api;
revoke execute on function correct_usage(text, integer, text, text, text, bigint, text, text, text, timestamptz, timestamptz) from public;
grant execute on function correct_usage(text, integer, text, text, text, bigint, text, text, text, timestamptz, timestamptz)
  to tallygate_api, tallygate_pipeline;
