-- Running totals of what is booked, submitted and billed, for the operator's metrics: by meter and plan, with the money at the plan's
-- prices. They are written by the transactions that aggregate and submit, so they are exact whoever leads and however often it starts;
-- no metric scans history.

-- Billing periods are the subscription's: UTC, from an anchor (operator/plan/calendar.h).
alter table tenants
  add column period_months smallint not null default 1 check (period_months in (1, 12)),
  add column period_anchor timestamptz not null default '1970-01-01 00:00:00+00';

-- The start of the period that contains p_at: the anchor and n intervals, the day clamped to short months and remembered.
create function period_start(p_anchor timestamptz, p_months integer, p_at timestamptz) returns timestamptz language plpgsql immutable as $$
declare
  a timestamp := p_anchor at time zone 'UTC';
  t timestamp := p_at at time zone 'UTC';
  n integer := floor((extract(year from t) * 12 + extract(month from t) - extract(year from a) * 12 - extract(month from a)) / p_months);
  v_start timestamp := a + make_interval(months => n * p_months);
begin
  if v_start > t then v_start := a + make_interval(months => (n - 1) * p_months); end if;
  return v_start at time zone 'UTC';
end $$;

-- What was aggregated of a tenant's meter in a billing period, where prices' tiers start anew. The wallet's tiers never do: its row
-- is of '-infinity', as its account is.
create table usage_periods (
  tenant text not null,
  meter text not null,
  settlement text not null,
  start timestamptz not null,
  units numeric not null,
  amount_micros numeric not null,                   -- at the prices that were in force when it was aggregated
  primary key (tenant, meter, settlement, start)
) with (fillfactor = 80);
insert into usage_periods (tenant, meter, settlement, start, units, amount_micros)
  select a.tenant, a.name, 'wallet', '-infinity',
         a.booked - coalesce((select sum(r.units) from usage_records r where r.tenant = a.tenant and r.meter = a.name
                                 and r.aggregate_id is null and a.bucket = any (r.buckets)), 0), 0
    from escrow_accounts a where a.wallet;

alter table usage_aggregates
  add column plan text not null default '',         -- what it was priced by; '': before this migration, or of no plan
  add column currency text not null default '',
  add column amount_micros bigint not null default 0;

-- stage: booked (aggregated), submitted (a meter event was made of it), billed (Stripe has taken the event, or the wallet paid). What
-- corrections take off is apart, so that neither sum ever falls.
create table billing_totals (
  stage text not null check (stage in ('booked', 'submitted', 'billed')),
  plan text not null,
  meter text not null,
  settlement text not null,
  currency text not null,
  units numeric not null,
  units_off numeric not null,
  amount_micros numeric not null,
  amount_off_micros numeric not null,
  primary key (stage, plan, meter, settlement, currency)
) with (fillfactor = 50);

-- What the units after the first p_from up to p_to cost, below zero where p_to is less. Most meters have one price.
create function charge_between(p_tiers jsonb, p_per_units bigint, p_from numeric, p_to numeric) returns bigint language plpgsql immutable as $$
declare
  v_price numeric;
  v_charge numeric;
begin
  if p_tiers is null then return 0; end if;
  if jsonb_array_length(p_tiers) = 1 then
    v_price := (p_tiers -> 0 ->> 'price_micros')::numeric;
    if v_price = 0 then return 0; end if;
    v_charge := half_even(greatest(0, p_to) * v_price, p_per_units) - half_even(greatest(0, p_from) * v_price, p_per_units);
  else
    v_charge := rated(p_tiers, p_per_units, p_to) - rated(p_tiers, p_per_units, p_from);
  end if;
  return greatest(-1152921504606846976, least(1152921504606846976, v_charge))::bigint;
end $$;

-- Units of this period that are in aggregates: where its row of usage_periods is made after the period began (a migration, a new anchor).
create function period_units(p_tenant text, p_meter text, p_settlement text, p_start timestamptz, p_anchor timestamptz, p_months integer)
returns numeric language sql stable as $$
  select coalesce(sum(a.units), 0) from usage_aggregates a
   where p_start <> '-infinity' and a.tenant = p_tenant and a.meter = p_meter and a.settlement = p_settlement and a.minute >= p_start
     and a.minute < p_start + make_interval(months => p_months + 1) and period_start(p_anchor, p_months, a.minute) = p_start
$$;

-- As in 0052, and prices what it aggregates: per tenant, meter and period in the order of its minutes.
create or replace function aggregate_usage(p_now timestamptz, p_before timestamptz, p_limit integer, p_tenant text default null,
    p_meter text default null, out o_records bigint, out o_aggregates bigint, out o_too_large bigint, out o_of text) language plpgsql as $$
declare
  v_ids bigint[];
  v_picked bigint;
begin
  o_records := 0; o_aggregates := 0; o_too_large := 0; o_of := '';
  if p_tenant is not null then
    perform pg_advisory_xact_lock(hashtextextended('tallygate aggregator', 0));
  elsif not pg_try_advisory_xact_lock(hashtextextended('tallygate aggregator', 0)) then
    return;
  end if;
  with picked as materialized (
    select r.incarnation_id, r.seq, r.second, r.tenant, r.meter, r.units, r.requests,
           date_trunc('minute', r.second, 'UTC') as minute,
           case when m.settlement is distinct from 'wallet' then coalesce(m.settlement, 'invoice')
                when r.meter || '$' = any (r.buckets) then 'wallet' else 'invoice' end as settlement
      from usage_records r left join tenant_meters m on m.tenant = r.tenant and m.meter = r.meter
     where r.aggregate_id is null and r.flag is distinct from 'too-large' and r.second < p_before
       and exists (select from tenants t where t.id = r.tenant)
       and (p_tenant is null or r.tenant = p_tenant and r.meter = p_meter)
     order by r.second limit p_limit
  ), summed as materialized (
    select tenant, meter, minute, settlement, sum(units) as units, sum(requests) as requests,
           greatest(abs(sum(units)), sum(requests)) > 1152921504606846976 as too_large
      from picked group by tenant, meter, minute, settlement
  ), grouped as materialized (
    select s.tenant, s.meter, s.minute, s.settlement, s.units, s.requests::bigint as requests,
           row_number() over (partition by s.tenant, s.meter, s.minute order by s.settlement) as place,
           coalesce(t.doc ->> 'plan', '') as plan, coalesce(m.currency, '') as currency, m.tiers, m.per_units,
           t.period_anchor, t.period_months,
           case s.settlement when 'wallet' then '-infinity' else period_start(t.period_anchor, t.period_months, s.minute) end as start
      from summed s join tenants t on t.id = s.tenant left join tenant_meters m on m.tenant = s.tenant and m.meter = s.meter
     where not s.too_large
  ), placed as (
    select g.*, row_number() over (partition by tenant, meter, settlement, start order by minute) = 1 as is_first from grouped g
  ), known as (                                     -- what came before them, once a period
    select p.*, case when is_first then coalesce(
             (select u.units from usage_periods u where u.tenant = p.tenant and u.meter = p.meter and u.settlement = p.settlement and u.start = p.start),
             period_units(p.tenant, p.meter, p.settlement, p.start, p.period_anchor, p.period_months)) else 0 end as before
      from placed p
  ), summed_up as (
    select k.*, sum(before + units) over (partition by tenant, meter, settlement, start order by minute) as upto from known k
  ), priced as materialized (
    select c.*, charge_between(c.tiers, c.per_units, c.upto - c.units, c.upto) as amount_micros from summed_up c
  ), made as (
    insert into usage_aggregates (tenant, meter, minute, revision, units, requests, created_at, settlement, outboxed, plan, currency,
                                  amount_micros)
      select p.tenant, p.meter, p.minute,
             coalesce((select max(a.revision) from usage_aggregates a
                        where a.tenant = p.tenant and a.meter = p.meter and a.minute = p.minute), -1) + p.place,
             p.units::bigint, p.requests, p_now, p.settlement, p.units = 0 or p.settlement <> 'invoice', p.plan, p.currency, p.amount_micros
        from priced p order by p.tenant, p.meter, p.minute, p.place
      returning id, tenant, meter, minute, settlement
  ), counted as (
    insert into usage_periods as u (tenant, meter, settlement, start, units, amount_micros)
      select tenant, meter, settlement, start, sum(before + units), sum(amount_micros) from priced group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (tenant, meter, settlement, start) do update set units = excluded.units, amount_micros = u.amount_micros + excluded.amount_micros
  ), totalled as (
    insert into billing_totals as b (stage, plan, meter, settlement, currency, units, units_off, amount_micros, amount_off_micros)
      select s.stage, p.plan, p.meter, p.settlement, p.currency, sum(greatest(0, p.units)), sum(greatest(0, -p.units)),
             sum(greatest(0, p.amount_micros)), sum(greatest(0, -p.amount_micros))
        from priced p cross join (values ('booked'), ('billed')) s (stage)
       where s.stage = 'booked' or p.settlement = 'wallet' group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
    on conflict (stage, plan, meter, settlement, currency) do update
      set units = b.units + excluded.units, units_off = b.units_off + excluded.units_off,
          amount_micros = b.amount_micros + excluded.amount_micros, amount_off_micros = b.amount_off_micros + excluded.amount_off_micros
  ), marked as (
    update usage_records r set aggregate_id = made.id, aggregated_at = p_now
      from picked p join made on made.tenant = p.tenant and made.meter = p.meter and made.minute = p.minute
                              and made.settlement = p.settlement
     where r.incarnation_id = p.incarnation_id and r.seq = p.seq and r.second = p.second and r.aggregate_id is null
    returning r.seq
  ), flagged as (
    update usage_records r set flag = 'too-large'
      from picked p join summed s on s.too_large and s.tenant = p.tenant and s.meter = p.meter and s.minute = p.minute
                                 and s.settlement = p.settlement
     where r.incarnation_id = p.incarnation_id and r.seq = p.seq and r.second = p.second and r.aggregate_id is null
    returning r.tenant, r.meter
  )
  select (select array_agg(id) from made), (select count(*) from picked), (select count(*) from marked), (select count(*) from flagged),
         left((select string_agg(distinct tenant || ' ' || meter, ', ') from flagged), 1000)
    into v_ids, v_picked, o_records, o_too_large, o_of;
  if o_records + o_too_large <> v_picked then
    raise exception 'BilledOnce: % records were to be aggregated, % were marked', v_picked, o_records + o_too_large;
  end if;
  o_aggregates := coalesce(cardinality(v_ids), 0);
  if o_aggregates > 0 then perform post_aggregates(v_ids, p_now); end if;
end $$;

-- Meter events made, and those that become delivered, whoever writes them.
create function total_submissions() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    perform add_submissions('submitted', (select array_agg(aggregate_id) from changed));
  else
    perform add_submissions('billed', (select array_agg(n.aggregate_id) from changed n join former o using (id)
                                        where n.state = 'delivered' and o.state <> 'delivered'));
  end if;
  return null;
end $$;
create function add_submissions(p_stage text, p_aggregates bigint[]) returns void language sql as $$
  insert into billing_totals as b (stage, plan, meter, settlement, currency, units, units_off, amount_micros, amount_off_micros)
    select p_stage, a.plan, a.meter, a.settlement, a.currency, sum(greatest(0, a.units)), sum(greatest(0, -a.units)),
           sum(greatest(0, a.amount_micros)), sum(greatest(0, -a.amount_micros))
      from usage_aggregates a where a.id = any (p_aggregates) group by 2, 3, 4, 5 order by 2, 3, 4, 5
  on conflict (stage, plan, meter, settlement, currency) do update
    set units = b.units + excluded.units, units_off = b.units_off + excluded.units_off,
        amount_micros = b.amount_micros + excluded.amount_micros, amount_off_micros = b.amount_off_micros + excluded.amount_off_micros
$$;
create trigger meter_submissions_submitted after insert on meter_submissions
  referencing new table as changed for each statement execute function total_submissions();
create trigger meter_submissions_billed after update on meter_submissions
  referencing new table as changed old table as former for each statement execute function total_submissions();

-- As in 0040, and with the billing period, {"period": {"months", "anchor": Unix seconds}}. Usage so far is aggregated first also where
-- it will be priced otherwise: it is priced as it was booked.
create or replace function upsert_tenants(p_tenants jsonb, p_now timestamptz) returns integer language plpgsql as $$
declare
  v_tenants text[];
  v_meters text[];
  v_count integer;
begin
  select array_agg(m.tenant), array_agg(m.meter) into v_tenants, v_meters
    from jsonb_to_recordset(p_tenants) as t (id text, doc jsonb, meters jsonb) join tenant_meters m on m.tenant = t.id
    join tenants old on old.id = t.id
    left join lateral jsonb_to_recordset(t.meters) as n (meter text, settlement text, currency text, per_units bigint, tiers jsonb)
           on n.meter = m.meter
   where (n.settlement, n.currency, n.per_units, n.tiers, t.doc ->> 'plan')
         is distinct from (m.settlement, m.currency, m.per_units, m.tiers, old.doc ->> 'plan');
  if v_tenants is not null then
    perform from wallets where tenant = any (v_tenants) order by tenant, currency for no key update;
    select array_agg(tenant), array_agg(meter) into v_tenants, v_meters
      from (select distinct r.tenant, r.meter from unnest(v_tenants, v_meters) as c (tenant, meter)
              join usage_records r on r.tenant = c.tenant and r.meter = c.meter
             where r.aggregate_id is null and r.flag is distinct from 'too-large') d;
    if cardinality(v_tenants) > 20 then             -- each would look through what is not aggregated yet
      perform pg_advisory_xact_lock(hashtextextended('tallygate aggregator', 0));
      perform aggregate_usage(p_now, 'infinity', 2147483647);
    else
      perform aggregate_usage(p_now, 'infinity', 2147483647, c.tenant, c.meter) from unnest(v_tenants, v_meters) as c (tenant, meter);
    end if;
  end if;
  v_count := write_tenants(p_tenants, p_now);
  update tenants t set period_months = (x.period ->> 'months')::smallint, period_anchor = to_timestamp((x.period ->> 'anchor')::bigint)
    from jsonb_to_recordset(p_tenants) as x (id text, period jsonb)
   where t.id = x.id and jsonb_typeof(x.period) = 'object'
     and (t.period_months, t.period_anchor) is distinct from ((x.period ->> 'months')::smallint, to_timestamp((x.period ->> 'anchor')::bigint));
  return v_count;
end $$;

-- Where each limit of a tenant stands in its present window: an hour and longer, for shorter ones live in Redis alone. States as the
-- sidecar tells them: warned from 80 % on; past a soft limit soft-over, or grace where that ends.
create function limit_standings(p_now timestamptz)
returns table (tenant text, limit_name text, meter text, amount bigint, booked bigint, state text, window_start timestamptz,
               window_end timestamptz) language sql stable as $$
  select distinct on (l.tenant, l.limit_name) l.tenant, l.limit_name, l.meter, l.amount, coalesce(a.booked, 0),
         case when coalesce(a.booked, 0) >= case when l.cap = 'soft' and l.grace_duration_s > 0
                     and a.crossed_at + l.grace_duration_s * interval '1 second' <= p_now then l.amount else l.capacity end then 'hard'
              when l.cap = 'soft' and a.booked > l.amount
                then case when l.capacity < 9007199254740991 or l.grace_duration_s > 0 then 'grace' else 'soft-over' end
              when coalesce(a.booked, 0)::numeric * 5 >= l.amount::numeric * 4 then 'warned' else 'ok' end,
         a.window_start, a.window_end
    from tenant_limits l join tenants t on t.id = l.tenant and t.deleted_at is null
    left join escrow_accounts a on a.tenant = l.tenant and a.name = l.limit_name and not a.wallet
                               and a.window_end > p_now and a.window_start <= p_now
   where l.window_kind not in ('second', 'minute')
   order by l.tenant, l.limit_name, a.window_start desc nulls last
$$;
create index escrow_accounts_live on escrow_accounts (window_end) where not wallet;

-- Movements of wallets by kind, without their usage (billing_totals has it). Wallets are written by many at once, so their totals are
-- rolled up behind them: up to an id below which no transaction can be under way any more.
create table wallet_movement_totals (
  kind text not null,
  currency text not null,
  movements bigint not null,
  in_micros numeric not null,
  out_micros numeric not null,
  primary key (kind, currency)
);
create table wallet_rollup (
  only_one boolean primary key default true check (only_one),
  done_id bigint not null default 0,
  target_id bigint not null default 0,
  target_xid xid8                                   -- once no transaction before it is under way, all ids up to the target are there or never will be
);
insert into wallet_rollup default values;

-- Rolls up at most p_limit movements, and returns how many; −1 where there are some and none was ever rolled up.
create function roll_up_wallet_movements(p_limit bigint) returns bigint language plpgsql as $$
declare
  p wallet_rollup;
  v_to bigint;
  v_count bigint := 0;
begin
  select * into p from wallet_rollup for update;
  if p.done_id < p.target_id and pg_snapshot_xmin(pg_current_snapshot()) >= p.target_xid then
    select max(c.id), count(*) into v_to, v_count
      from (select id from credit_transactions where id > p.done_id and id <= p.target_id order by id limit p_limit) c;
    if v_count < p_limit then v_to := p.target_id; end if;
    insert into wallet_movement_totals as w (kind, currency, movements, in_micros, out_micros)
      select kind, currency, count(*), sum(greatest(0, amount_micros)), sum(greatest(0, -amount_micros))
        from credit_transactions where id > p.done_id and id <= v_to group by 1, 2 order by 1, 2
    on conflict (kind, currency) do update set movements = w.movements + excluded.movements, in_micros = w.in_micros + excluded.in_micros,
      out_micros = w.out_micros + excluded.out_micros;
    p.done_id := v_to;
  end if;
  if p.done_id = p.target_id then
    -- In one snapshot: who took a lower id and is not done yet has a transaction number below its end.
    select coalesce(max(id), 0), pg_snapshot_xmax(pg_current_snapshot()) into p.target_id, p.target_xid from credit_transactions;
  end if;
  update wallet_rollup set done_id = p.done_id, target_id = p.target_id, target_xid = p.target_xid
   where (done_id, target_id, target_xid) is distinct from (p.done_id, p.target_id, p.target_xid);
  return case when p.done_id = 0 and p.target_id > 0 then -1 else v_count end;
end $$;

create index incarnations_alive on incarnations (software, pod) where last_epoch is null;

select secure_tables();
