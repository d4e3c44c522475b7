-- Epochs and funding. Locks are taken in one order everywhere: shard_epochs by shard, incarnations by (shard, incarnation),
-- wallets by (tenant, currency), escrow_accounts by (tenant, bucket), then what hangs on them. Written for READ COMMITTED:
-- a row is locked by one statement and read by a later one.

-- Compare and set, per shard: where the current number is still `expected`, the next one, which becomes current; else 0.
-- 0 as well while opening backs off (rule 17): the gap doubles up to 8 s while epochs live less than 5 s.
create function epoch_open(p_shards integer[], p_expected bigint[], p_now timestamptz)
returns table (o_shard integer, o_number bigint) language plpgsql as $$
declare
  s shard_epochs;
  i integer;
begin
  for i in select place from unnest(p_shards) with ordinality as t (shard, place) order by shard loop
    select * into s from shard_epochs where shard = p_shards[i] for no key update;
    o_shard := p_shards[i];
    o_number := 0;
    if found and s.number = p_expected[i] and (s.not_before is null or s.not_before <= p_now) then
      o_number := s.number + 1;
      update epochs set state = 'closing', closing_at = p_now where shard = s.shard and number = s.number and state = 'open';
      insert into epochs (shard, number, state, opened_at) values (s.shard, o_number, 'open', p_now);
      s.gap_ms := case when s.opened_at > p_now - interval '5 seconds' then least(8000, s.gap_ms * 2) else 250 end;
      update shard_epochs set number = o_number, opened_at = p_now, gap_ms = s.gap_ms,
             not_before = p_now + s.gap_ms * interval '1 millisecond' where shard = s.shard;
    end if;
    return next;
  end loop;
end $$;

-- The current number of each shard and who may hold units under it: one statement, so one snapshot (rule 5). A shard
-- without members is one row with a null incarnation.
create function epoch_members(p_shards integer[])
returns table (o_shard integer, o_number bigint, o_incarnation text) language sql stable as $$
  select s.shard::integer, s.number, i.incarnation
    from shard_epochs s
    left join incarnations i on i.shard = s.shard and i.first_epoch <= s.number and i.last_epoch is null
   where s.shard = any (p_shards)
   order by s.shard, i.incarnation
$$;

-- Declares an incarnation gone: it is no member of any epoch opened from now on. False where it was not alive.
create function incarnation_gone(p_shard integer, p_incarnation text) returns boolean language plpgsql as $$
declare
  v_number bigint;
begin
  select number into v_number from shard_epochs where shard = p_shard for share;
  update incarnations set last_epoch = v_number
   where shard = p_shard and incarnation = p_incarnation and last_epoch is null;
  return found;
end $$;

-- Units on hold in floats.
create function held_units(p_account bigint) returns bigint language sql stable as $$
  select coalesce(sum(greatest(0, funded - booked - recalled)), 0)::bigint from escrow_floats where account = p_account
$$;

-- Most units this account may have booked and on hold, at this moment; null where nobody sells it any more. Read when
-- funding, so that a changed plan is in force at once. A soft limit's grace that has a duration ends that long after the
-- limit was crossed. A wallet's: what is booked and held, and what the rest of the money pays at the tier price ahead.
create function escrow_capacity(p_account escrow_accounts, p_now timestamptz) returns bigint language plpgsql as $$
declare
  l tenant_limits;
  m tenant_meters;
  w wallets;
begin
  if p_account.wallet then
    select * into m from tenant_meters where tenant = p_account.tenant and meter = p_account.name and settlement = 'wallet';
    if not found then return null; end if;
    select * into w from wallets where tenant = p_account.tenant and currency = m.currency;
    if not found then return null; end if;
    return p_account.booked + affordable_units(m.tiers, m.per_units, p_account.booked,
        w.balance_micros::numeric + w.debt_limit_micros - w.held_micros + p_account.held_micros);
  end if;
  select * into l from tenant_limits where tenant = p_account.tenant and limit_name = p_account.name;
  if not found then return null; end if;
  if l.cap = 'soft' and l.grace_duration_s > 0 and p_account.crossed_at + l.grace_duration_s * interval '1 second' <= p_now then
    return l.amount;
  end if;
  return l.capacity;
end $$;

-- capacity − booked − holds; negative after a limit was lowered. Null as in escrow_capacity.
create function available(p_account bigint, p_now timestamptz) returns bigint language sql stable as $$
  select escrow_capacity(a, p_now) - a.booked - held_units(a.id) from escrow_accounts a where a.id = p_account
$$;

-- The account of a bucket, made on demand, its row locked. Null where the bucket's window is over (by more than a minute),
-- has not begun (by more than an hour), or no such limit or wallet-settled meter exists.
create function escrow_account_for_funding(p_tenant text, p_bucket text, p_now timestamptz)
returns escrow_accounts language plpgsql as $$
declare
  a escrow_accounts;
  v_wallet boolean := right(p_bucket, 1) = '$';
  v_name text := case when v_wallet then left(p_bucket, -1) else split_part(p_bucket, '@', 1) end;
  v_start timestamptz;
  v_end timestamptz;
begin
  if v_wallet then
    if not exists (select from tenant_meters m join tenants t on t.id = m.tenant and t.deleted_at is null
                    where m.tenant = p_tenant and m.meter = v_name and m.settlement = 'wallet') then return null; end if;
  else
    v_start := to_timestamp(split_part(split_part(p_bucket, '@', 2), '+', 1)::bigint);
    v_end := v_start + split_part(p_bucket, '+', 2)::bigint * interval '1 second';
    if v_end <= p_now - interval '1 minute' or v_start > p_now + interval '1 hour' then return null; end if;
    if not exists (select from tenant_limits l join tenants t on t.id = l.tenant and t.deleted_at is null
                    where l.tenant = p_tenant and l.limit_name = v_name) then return null; end if;
  end if;
  loop
    select * into a from escrow_accounts where tenant = p_tenant and bucket = p_bucket for no key update;
    if found then return a; end if;
    insert into escrow_accounts (tenant, bucket, name, wallet, window_start, window_end, created_at)
      values (p_tenant, p_bucket, v_name, v_wallet, v_start, v_end, p_now) on conflict (tenant, bucket) do nothing;
  end loop;
end $$;

-- Recomputes the money on hold for a wallet account's floats, on the account and on its wallet, both locked by the caller.
create function escrow_rehold(p_account bigint) returns void language plpgsql as $$
declare
  a escrow_accounts;
  m tenant_meters;
  v_held bigint;
begin
  select * into a from escrow_accounts where id = p_account;
  select * into m from tenant_meters where tenant = a.tenant and meter = a.name;
  if not found then return; end if;
  v_held := greatest(0, rated_hold(m.tiers, m.per_units, a.booked, held_units(a.id)));
  if v_held = a.held_micros and m.currency is not distinct from a.held_currency then return; end if;
  update escrow_accounts set held_micros = v_held, held_currency = m.currency where id = a.id;
  update wallets set held_micros = held_micros - a.held_micros where tenant = a.tenant and currency = a.held_currency;
  update wallets set held_micros = held_micros + v_held where tenant = a.tenant and currency = m.currency;
end $$;

-- Funds one bucket of the current epoch. F, Rc and free are what Redis says of it: funded, recalled, free; `need` is the
-- largest single request that went short. Statuses:
--   OK     total = what Redis shall be told (fund.lua), acked = below what it must not know less
--   EPOCH  the epoch is no longer current
--   LOST   Redis knows less than it once acknowledged: open a new epoch (rule 4)
--   NONE   nobody sells this bucket (any more): tell Redis it is dry
-- Grants at most half of what is available (rounded up, so that the last unit is granted too), up to the target; a single
-- request above that gets what it needs, if there is as much.
create function fund(p_shard integer, p_epoch bigint, p_tenant text, p_bucket text, p_funded bigint, p_recalled bigint,
                     p_free bigint, p_need bigint, p_target_units bigint, p_now timestamptz,
                     out o_status text, out o_total bigint, out o_acked bigint, out o_avail bigint, out o_used bigint,
                     out o_dry text, out o_low bigint, out o_granted bigint) language plpgsql as $$
declare
  a escrow_accounts;
  f escrow_floats;
  v_capacity bigint;
  v_free bigint;
  v_target bigint;
begin
  o_total := 0; o_acked := 0; o_avail := 0; o_used := 0; o_dry := ''; o_low := 1; o_granted := 0; o_status := 'EPOCH';
  perform from shard_epochs where shard = p_shard and number = p_epoch for share;
  if not found then return; end if;
  if right(p_bucket, 1) = '$' then
    perform from wallets where tenant = p_tenant order by currency for no key update;
  end if;
  a := escrow_account_for_funding(p_tenant, p_bucket, p_now);
  v_capacity := case when a.id is not null then escrow_capacity(a, p_now) end;
  if a.id is not null then
    insert into escrow_floats (account, epoch, acked, recalled) values (a.id, p_epoch, p_funded, p_recalled)
      on conflict (account, epoch) do update set acked = greatest(escrow_floats.acked, excluded.acked),
             recalled = greatest(escrow_floats.recalled, excluded.recalled) returning * into f;
    if p_funded < f.acked then o_status := 'LOST'; return; end if;
    -- More than was ever funded: this ledger has lost a commit. What Redis has is on hold all the same.
    if p_funded > f.funded then
      update escrow_floats set funded = p_funded where account = a.id and epoch = p_epoch returning * into f;
      if a.wallet then perform escrow_rehold(a.id); end if;
    end if;
    o_total := f.funded; o_acked := f.acked; o_used := a.booked;
  end if;
  if v_capacity is null then
    o_status := 'NONE'; o_dry := coalesce(a.version, 0)::text; o_total := greatest(o_total, p_funded); o_acked := p_funded;
    return;
  end if;
  o_status := 'OK';
  o_avail := v_capacity - a.booked - held_units(a.id);
  v_free := p_free + (f.funded - p_funded);            -- with what is funded and not yet there
  v_target := greatest(least(o_avail / 4, p_target_units), least(64, p_target_units));
  if o_avail > 0 and (v_free < (v_target + 1) / 2 or p_need > v_free) then
    o_granted := least(o_avail, greatest(p_need - v_free, least(v_target - v_free, (o_avail + 1) / 2)));
    update escrow_floats set funded = funded + o_granted where account = a.id and epoch = p_epoch
      returning funded into o_total;
    if a.wallet then perform escrow_rehold(a.id); end if;
    o_avail := v_capacity - a.booked - held_units(a.id);
    if o_avail < 0 or a.wallet and available(a.id, p_now) < 0 then
      raise exception 'NoOvershoot: funding % of % left % available', p_bucket, p_tenant, o_avail;
    end if;
  end if;
  o_avail := greatest(0, o_avail);
  if o_avail = 0 then o_dry := a.version::text; end if;
  o_low := greatest(1, greatest(least(o_avail / 4, p_target_units), least(64, p_target_units)) / 2);
end $$;

-- fund() for many buckets in one round trip. p_requests: [{"n", "shard", "epoch", "tenant", "bucket", "f", "rc", "free",
-- "need"}]; n is the caller's own number, given back with each answer.
create function fund_batch(p_requests jsonb, p_target_units bigint, p_now timestamptz)
returns table (o_n integer, o_status text, o_total bigint, o_acked bigint, o_avail bigint, o_used bigint, o_dry text,
               o_low bigint, o_granted bigint) language plpgsql as $$
declare
  r record;
begin
  perform from shard_epochs where shard in (select (value ->> 'shard')::smallint from jsonb_array_elements(p_requests))
    order by shard for share;
  perform from wallets w where w.tenant in (select value ->> 'tenant' from jsonb_array_elements(p_requests)
                                            where right(value ->> 'bucket', 1) = '$')
    order by w.tenant, w.currency for no key update;
  for r in select * from jsonb_to_recordset(p_requests) as x (n integer, shard integer, epoch bigint, tenant text, bucket text,
             f bigint, rc bigint, free bigint, need bigint) order by tenant, bucket loop
    return query select r.n, g.* from fund(r.shard, r.epoch, r.tenant, r.bucket, r.f, r.rc, r.free, r.need, p_target_units, p_now) g;
  end loop;
end $$;
