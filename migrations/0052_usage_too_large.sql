-- Usage whose sum is more than can be counted stops nobody else's: a minute of a meter beyond `bounded` (2^60) is flagged 'too-large'
-- record by record, and left out from then on. It stays in the ledger and in the tenant's usage; it is in no aggregate and so in no
-- bill, until somebody has looked at it and has set the flag to null.

drop index usage_records_unaggregated;
create index usage_records_unaggregated on usage_records (second) where aggregate_id is null and flag is distinct from 'too-large';

drop function aggregate_usage(timestamptz, timestamptz, integer, text, text);
-- As in 0040. o_too_large: records flagged by this call; o_of: whose, for the log.
create function aggregate_usage(p_now timestamptz, p_before timestamptz, p_limit integer, p_tenant text default null, p_meter text default null,
                                out o_records bigint, out o_aggregates bigint, out o_too_large bigint, out o_of text) language plpgsql as $$
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
  ), grouped as (
    select tenant, meter, minute, settlement, units::bigint as units, requests::bigint as requests,
           row_number() over (partition by tenant, meter, minute order by settlement) as place
      from summed where not too_large
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
