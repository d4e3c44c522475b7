-- Usage that apps report themselves, booked once by its request id, and what the API shows of usage.

create sequence direct_usage_seq;

-- What makes it once. Its records are incarnation 0's in usage_records: no sidecar's.
create table direct_usage (
  tenant text not null references tenants,
  request_id text not null check (length(request_id) between 1 and 255),
  fingerprint text not null,                        -- of the request
  seq bigint not null unique default nextval('direct_usage_seq'),
  booked_at timestamptz not null,
  primary key (tenant, request_id)
);
create trigger direct_usage_append_only before update or truncate on direct_usage
  for each statement execute function refuse_change();

-- Books p_rows: [{"id", "fingerprint", "meter", "units", "second": Unix seconds, "dims": JSON as text, "buckets": [..]}] of one
-- tenant. Each row's place (from 1) and status: new, duplicate, or mismatch (its id was used for other usage): then the caller
-- rolls back. Wallet-settled usage is charged as the pump charges it; what was used was used, so it may pass any limit.
create function book_direct_usage(p_tenant text, p_shard integer, p_rows jsonb, p_now timestamptz)
returns table (place bigint, status text) language plpgsql security definer set search_path = public, pg_temp as $$
declare
  v_new text[];
begin
  perform require_own_tenant(p_tenant);
  perform prepare_booking();
  with wanted as (
    select e ->> 'id' as id, e ->> 'fingerprint' as fingerprint, e ->> 'meter' as meter, (e ->> 'units')::bigint as units,
           to_timestamp((e ->> 'second')::bigint) as second, (e ->> 'dims')::jsonb as dims,
           array(select jsonb_array_elements_text(e -> 'buckets')) as buckets
      from jsonb_array_elements(p_rows) e
  ), once as (
    insert into direct_usage (tenant, request_id, fingerprint, booked_at)
      select p_tenant, id, fingerprint, p_now from wanted order by id
    on conflict (tenant, request_id) do nothing returning request_id, seq
  ), records as (
    insert into usage_records (incarnation_id, seq, shard, tenant, meter, units, requests, second, dims, buckets, epoch, booked_at)
      select 0, o.seq, p_shard, p_tenant, w.meter, w.units, 1, w.second, w.dims, w.buckets, 0, p_now
        from once o join wanted w on w.id = o.request_id
    returning buckets, units, requests
  ), sums as (
    insert into taken_sums (tenant, bucket, epoch, units, requests)
      select p_tenant, bucket, 0, sum(units), sum(requests) from records, unnest(buckets) as bucket group by bucket
  )
  select coalesce(array_agg(request_id), '{}') into v_new from once;
  perform book_sums(p_now);
  return query
    select r.place, case when r.row ->> 'id' = any (v_new) then 'new'
                         when d.fingerprint = r.row ->> 'fingerprint' then 'duplicate' else 'mismatch' end
      from jsonb_array_elements(p_rows) with ordinality as r (row, place)
      join direct_usage d on d.tenant = p_tenant and d.request_id = r.row ->> 'id'
     order by r.place;
end $$;

-- Units booked in these buckets.
create function usage_now(p_tenant text, p_buckets text[]) returns table (bucket text, booked bigint) language sql stable as $$
  select a.bucket, a.booked from escrow_accounts a where a.tenant = p_tenant and a.bucket = any (p_buckets)
$$;

-- Units by meter from p_from to before p_to: the aggregates, and what is not aggregated yet.
create function usage_totals(p_tenant text, p_from timestamptz, p_to timestamptz)
returns table (meter text, units bigint) language sql stable as $$
  select u.meter, sum(u.units)::bigint
    from (select a.meter, a.units from usage_aggregates a
           where a.tenant = p_tenant and a.minute >= p_from and a.minute < p_to
          union all
          select r.meter, r.units from usage_records r
           where r.tenant = p_tenant and r.aggregate_id is null and r.second >= p_from and r.second < p_to) u
   group by u.meter order by u.meter
$$;

-- The same by step ('hour' or 'day', UTC); p_meter null: all.
create function usage_history(p_tenant text, p_meter text, p_from timestamptz, p_to timestamptz, p_step text)
returns table (start timestamptz, meter text, units bigint, requests bigint) language sql stable as $$
  select date_trunc(p_step, u.moment, 'UTC'), u.meter, sum(u.units)::bigint, sum(u.requests)::bigint
    from (select a.minute as moment, a.meter, a.units, a.requests from usage_aggregates a
           where a.tenant = p_tenant and a.minute >= p_from and a.minute < p_to
          union all
          select r.second, r.meter, r.units, r.requests from usage_records r
           where r.tenant = p_tenant and r.aggregate_id is null and r.second >= p_from and r.second < p_to) u
   where p_meter is null or u.meter = p_meter
   group by 1, 2 order by 1, 2
$$;

select secure_tables();
revoke execute on function book_direct_usage(text, integer, jsonb, timestamptz) from public;
grant execute on function book_direct_usage(text, integer, jsonb, timestamptz) to tallygate_api, tallygate_pipeline;
