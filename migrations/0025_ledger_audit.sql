-- The ledger audits itself, and old usage goes.

-- Differences between what is kept and what it must be; none where all is well. One snapshot: safe beside running writes.
create function ledger_audit() returns table (check_name text, tenant text, commodity text, expected numeric, actual numeric, detail text)
language sql stable as $$
  with by_account as (
    select a.tenant, a.kind, a.commodity, sum(p.amount) as amount
      from ledger_postings p join ledger_accounts a on a.id = p.account group by a.tenant, a.kind, a.commodity
  )
  select 'zero_sum', null::text, b.commodity, 0::numeric, sum(b.amount), 'all postings'
    from by_account b group by b.commodity having sum(b.amount) <> 0
  union all
  select 'transfer_zero_sum', min(a.tenant), a.commodity, 0, sum(p.amount), 'transfer ' || p.transfer
    from ledger_postings p join ledger_accounts a on a.id = p.account group by p.transfer, a.commodity having sum(p.amount) <> 0
  union all
  select 'balance', coalesce(w.tenant, b.tenant), coalesce(w.currency, b.commodity), coalesce(b.amount, 0), w.balance_micros,
         'wallets.balance_micros against postings of wallet and holds'
    from wallets w full join (select x.tenant, x.commodity, sum(x.amount) as amount from by_account x
                               where x.kind in ('wallet', 'holds') group by x.tenant, x.commodity) b
      on b.tenant = w.tenant and b.commodity = w.currency
   where w.balance_micros is distinct from coalesce(b.amount, 0)
  union all
  select 'holds', w.tenant, w.currency, coalesce(b.amount, 0), w.reserved_micros, 'wallets.reserved_micros against postings of holds'
    from wallets w left join by_account b on b.tenant = w.tenant and b.commodity = w.currency and b.kind = 'holds'
   where w.reserved_micros <> coalesce(b.amount, 0)
  union all
  select 'reservations', w.tenant, w.currency, coalesce(c.amount, 0), w.reserved_micros, 'wallets.reserved_micros against pending reservations'
    from wallets w left join (select x.tenant, x.currency, sum(x.amount_micros) as amount from credit_reservations x
                               where x.state = 'pending' group by x.tenant, x.currency) c
      on c.tenant = w.tenant and c.currency = w.currency
   where w.reserved_micros <> coalesce(c.amount, 0)
  union all
  select 'floats', w.tenant, w.currency, coalesce(e.amount, 0), w.held_micros, 'wallets.held_micros against escrow accounts'
    from wallets w left join (select x.tenant, x.held_currency, sum(x.held_micros) as amount from escrow_accounts x
                               where x.wallet group by x.tenant, x.held_currency) e
      on e.tenant = w.tenant and e.held_currency = w.currency
   where w.held_micros <> coalesce(e.amount, 0)
  union all
  select 'hold_states', c.tenant, c.currency, 1, count(r.id), 'reservation ' || c.id || ' is ' || c.state || ', its hold is resolved otherwise'
    from credit_reservations c left join ledger_transfers r on r.resolves = c.hold
   where c.hold is not null
   group by c.id
  having (c.state = 'pending') <> (count(r.id) = 0)
      or min(r.kind) is distinct from (case c.state when 'committed' then 'commit' when 'released' then 'release' when 'expired' then 'expire' end)
  union all
  select 'history', w.tenant, w.currency, w.balance_micros, t.amount + coalesce(u.amount, 0), 'history and booked usage against the balance'
    from wallets w
    join (select x.tenant, x.currency, sum(x.amount_micros) as amount from credit_transactions x group by x.tenant, x.currency) t
      on t.tenant = w.tenant and t.currency = w.currency
    left join (select a.tenant, a.commodity, sum(p.amount) as amount
                 from ledger_transfers x join ledger_postings p on p.transfer = x.id join ledger_accounts a on a.id = p.account
                where x.kind = 'wallet_usage' and a.kind = 'wallet' group by a.tenant, a.commodity) u
      on u.tenant = w.tenant and u.commodity = w.currency
   where w.balance_micros <> t.amount + coalesce(u.amount, 0)
$$;

-- New partitions are under row-level security from the start.
alter function ensure_usage_partitions(timestamptz) rename to make_usage_partitions;
create function ensure_usage_partitions(p_now timestamptz) returns integer language plpgsql as $$
declare
  v_made integer := make_usage_partitions(p_now);
begin
  if v_made > 0 then perform secure_tables(); end if;
  return v_made;
end $$;

-- Drops the monthly partitions that ended before this moment and whose records are all aggregated; a partition with any that
-- are not is kept, and told of by its presence. Returns how many it dropped.
create function drop_old_usage_partitions(p_before timestamptz) returns integer language plpgsql as $$
declare
  t record;
  v_month timestamp;
  v_open boolean;
  v_dropped integer := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('tallygate usage partitions', 0));
  for t in select c.oid::regclass as name, c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent = 'usage_records'::regclass and c.relname ~ '^usage_records_[0-9]{6}$' order by c.relname loop
    v_month := to_timestamp(right(t.relname, 6), 'YYYYMM') at time zone current_setting('TimeZone');
    continue when (v_month + interval '1 month') at time zone 'UTC' > p_before;
    execute format('select exists (select from %s where aggregate_id is null)', t.name) into v_open;
    continue when v_open;
    execute format('drop table %s', t.name);
    v_dropped := v_dropped + 1;
  end loop;
  return v_dropped;
end $$;
revoke execute on function drop_old_usage_partitions(timestamptz), secure_tables() from public;

-- What a sidecar's usage costs is the tenant's transfer too.
create or replace function book_wallet(p_account bigint, p_units numeric, p_now timestamptz) returns void language plpgsql as $$
declare
  a escrow_accounts;
  m tenant_meters;
  v_cost bigint := 0;
  v_transfer bigint;
begin
  select * into a from escrow_accounts where id = p_account;
  select * into m from tenant_meters where tenant = a.tenant and meter = a.name and settlement = 'wallet';
  if found then
    v_cost := bounded(rated(m.tiers, m.per_units, a.booked + p_units) - rated(m.tiers, m.per_units, a.booked));
  end if;
  update escrow_accounts set booked = bounded(booked + p_units) where id = a.id;
  if v_cost > 0 then
    insert into wallets (tenant, currency) values (a.tenant, m.currency) on conflict do nothing;
    update wallets set balance_micros = balance_micros - v_cost where tenant = a.tenant and currency = m.currency;
    insert into ledger_transfers (kind, source, memo, posted_at, tenant)
      values ('wallet_usage', format('wallet_usage/%s/%s', a.id, a.booked), format('%s units of %s', p_units, a.name), p_now, a.tenant)
      on conflict (source) do nothing returning id into v_transfer;
    if v_transfer is not null then
      insert into ledger_postings (transfer, account, amount)
        values (v_transfer, ledger_account(a.tenant, 'wallet', m.currency), -v_cost),
               (v_transfer, ledger_account(null, 'revenue', m.currency), v_cost);
    end if;
  end if;
  perform escrow_rehold(a.id);
end $$;
