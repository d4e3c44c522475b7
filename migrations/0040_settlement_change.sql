-- A tenant's new plan may settle a meter otherwise. What was booked before was charged to the wallet, or was not: it is settled
-- as it was booked, before the new plan is in force.

drop function aggregate_usage(timestamptz, timestamptz, integer);
-- Aggregates up to `p_limit` records from before `p_before`: marks them, inserts the aggregates and posts the transfers,
-- all in the caller's transaction. Concurrent calls: one works, the others return nothing. A record of a tenant that is
-- not known stays, and is aggregated once its tenant is. With p_tenant and p_meter: that meter's only, waiting for its turn.
-- Who settles it is the plan's word, but what the wallet was never charged for (it names no bucket of the wallet) is an invoice's.
create function aggregate_usage(p_now timestamptz, p_before timestamptz, p_limit integer, p_tenant text default null,
                                p_meter text default null, out o_records bigint, out o_aggregates bigint) language plpgsql as $$
declare
  v_ids bigint[];
  v_picked bigint;
begin
  o_records := 0; o_aggregates := 0;
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
     where r.aggregate_id is null and r.second < p_before and exists (select from tenants t where t.id = r.tenant)
       and (p_tenant is null or r.tenant = p_tenant and r.meter = p_meter)
     order by r.second limit p_limit
  ), grouped as (
    select tenant, meter, minute, settlement, sum(units)::bigint as units, sum(requests)::bigint as requests,
           row_number() over (partition by tenant, meter, minute order by settlement) as place
      from picked group by tenant, meter, minute, settlement
  ), made as (
    insert into usage_aggregates (tenant, meter, minute, revision, units, requests, created_at, settlement, outboxed)
      select g.tenant, g.meter, g.minute,
             coalesce((select max(a.revision) from usage_aggregates a
                        where a.tenant = g.tenant and a.meter = g.meter and a.minute = g.minute), -1) + g.place,
             g.units, g.requests, p_now, g.settlement, g.units = 0 or g.settlement <> 'invoice'
        from grouped g order by g.tenant, g.meter, g.minute, g.place
      returning id, tenant, meter, minute, settlement
  ), marked as (
    update usage_records r set aggregate_id = made.id, aggregated_at = p_now
      from picked p join made on made.tenant = p.tenant and made.meter = p.meter and made.minute = p.minute
                              and made.settlement = p.settlement
     where r.incarnation_id = p.incarnation_id and r.seq = p.seq and r.second = p.second and r.aggregate_id is null
    returning r.seq
  )
  select (select array_agg(id) from made), (select count(*) from picked), (select count(*) from marked)
    into v_ids, v_picked, o_records;
  if o_records <> v_picked then
    raise exception 'BilledOnce: % records were to be aggregated, % were marked', v_picked, o_records;
  end if;
  o_aggregates := coalesce(cardinality(v_ids), 0);
  if o_aggregates > 0 then perform post_aggregates(v_ids, p_now); end if;
end $$;

-- Writes tenants as before. First, where a meter will be settled otherwise, its usage so far is aggregated. The wallets' locks keep
-- bookings out meanwhile: one that comes later finds the new settlement, and charges by that.
alter function upsert_tenants(jsonb, timestamptz) rename to write_tenants;
create function upsert_tenants(p_tenants jsonb, p_now timestamptz) returns integer language plpgsql as $$
declare
  v_changed jsonb;
  r record;
begin
  select jsonb_agg(jsonb_build_object('tenant', m.tenant, 'meter', m.meter)) into v_changed
    from jsonb_to_recordset(p_tenants) as t (id text, meters jsonb) join tenant_meters m on m.tenant = t.id
    left join lateral jsonb_to_recordset(t.meters) as n (meter text, settlement text) on n.meter = m.meter
   where n.settlement is distinct from m.settlement;
  if v_changed is not null then
    perform from wallets where tenant in (select e ->> 'tenant' from jsonb_array_elements(v_changed) e)
      order by tenant, currency for no key update;
    for r in select e ->> 'tenant' as tenant, e ->> 'meter' as meter from jsonb_array_elements(v_changed) e loop
      perform aggregate_usage(p_now, 'infinity', 2147483647, r.tenant, r.meter);
    end loop;
  end if;
  return write_tenants(p_tenants, p_now);
end $$;
