-- What the publisher writes: tenants with their meters, limits and wallets. Set-based: ten thousand tenants are a few calls.

-- p_tenants: [{"id", "shard", "version", "suspended", "doc", "wallet": null or {"currency", "debt_limit_micros"},
--   "meters": [{"meter", "settlement", "currency", "per_units", "tiers", "stripe_customer_id"}],
--   "limits": [{"limit_name", "meter", "amount", "capacity", "cap", "grace_duration_s", "window_kind"}]}]
-- Meters and limits that are not named are deleted; wallets never are.
create function upsert_tenants(p_tenants jsonb, p_now timestamptz) returns integer language plpgsql as $$
declare
  v_count integer;
  r record;
begin
  create temp table if not exists incoming_tenants (id text, shard smallint, version bigint, suspended boolean, doc jsonb,
    wallet jsonb, meters jsonb, limits jsonb) on commit delete rows;
  delete from incoming_tenants;
  insert into incoming_tenants select x.* from jsonb_to_recordset(p_tenants)
    as x (id text, shard smallint, version bigint, suspended boolean, doc jsonb, wallet jsonb, meters jsonb, limits jsonb);
  get diagnostics v_count = row_count;

  insert into tenants (id, shard, doc, version, suspended, created_at, updated_at)
    select id, shard, doc, version, suspended, p_now, p_now from incoming_tenants order by id
    on conflict (id) do update set doc = excluded.doc, version = excluded.version, suspended = excluded.suspended,
      deleted_at = null, updated_at = p_now;

  insert into wallets (tenant, currency, debt_limit_micros)
    select t.id, w.currency, w.debt_limit_micros
      from incoming_tenants t, jsonb_to_record(t.wallet) as w (currency text, debt_limit_micros bigint)
     where jsonb_typeof(t.wallet) = 'object' order by t.id
    on conflict (tenant, currency) do update set debt_limit_micros = excluded.debt_limit_micros
      where wallets.debt_limit_micros <> excluded.debt_limit_micros;

  delete from tenant_meters m using incoming_tenants t
   where m.tenant = t.id and not exists (select from jsonb_array_elements(t.meters) e where e ->> 'meter' = m.meter);
  insert into tenant_meters (tenant, meter, settlement, currency, per_units, tiers, stripe_customer_id)
    select t.id, m.meter, m.settlement, m.currency, m.per_units, m.tiers, coalesce(m.stripe_customer_id, '')
      from incoming_tenants t, jsonb_to_recordset(t.meters) as m (meter text, settlement text, currency text,
           per_units bigint, tiers jsonb, stripe_customer_id text) order by t.id, m.meter
    on conflict (tenant, meter) do update set settlement = excluded.settlement, currency = excluded.currency,
      per_units = excluded.per_units, tiers = excluded.tiers, stripe_customer_id = excluded.stripe_customer_id
      where tenant_meters.* is distinct from excluded.*;

  delete from tenant_limits l using incoming_tenants t
   where l.tenant = t.id and not exists (select from jsonb_array_elements(t.limits) e where e ->> 'limit_name' = l.limit_name);
  insert into tenant_limits (tenant, limit_name, meter, amount, capacity, cap, grace_duration_s, window_kind)
    select t.id, l.limit_name, l.meter, l.amount, l.capacity, l.cap, coalesce(l.grace_duration_s, 0), l.window_kind
      from incoming_tenants t, jsonb_to_recordset(t.limits) as l (limit_name text, meter text, amount bigint,
           capacity bigint, cap text, grace_duration_s bigint, window_kind text) order by t.id, l.limit_name
    on conflict (tenant, limit_name) do update set meter = excluded.meter, amount = excluded.amount,
      capacity = excluded.capacity, cap = excluded.cap, grace_duration_s = excluded.grace_duration_s,
      window_kind = excluded.window_kind
      where tenant_limits.* is distinct from excluded.*;

  -- A changed price changes what the units in floats may cost: wallets first, then accounts, as everywhere.
  perform from wallets where tenant in (select id from incoming_tenants) order by tenant, currency for no key update;
  for r in select a.id from escrow_accounts a join incoming_tenants t on t.id = a.tenant
            where a.wallet order by a.tenant, a.bucket for no key update of a loop
    perform escrow_rehold(r.id);
  end loop;
  return v_count;
end $$;

-- No limit of theirs is funded from now on; what they used before still books, so meters, wallets and history stay.
create function remove_tenants(p_ids jsonb, p_now timestamptz) returns integer language plpgsql as $$
declare
  v_count integer;
begin
  update tenants set deleted_at = p_now, updated_at = p_now
   where deleted_at is null and id in (select jsonb_array_elements_text(p_ids));
  get diagnostics v_count = row_count;
  delete from tenant_limits where tenant in (select jsonb_array_elements_text(p_ids));
  return v_count;
end $$;
