-- Booking: from the pump's staging table into usage records, accounts, floats and wallets, in one transaction.

-- The staging tables of this connection. Call once per connection, then COPY into usage_staging and call book_batch in one
-- transaction; they are empty again after it.
create function prepare_booking() returns void language plpgsql as $$
begin
  create temp table if not exists usage_staging (
    shard smallint, incarnation text, kind "char", seq bigint, epoch bigint,
    tenant text, meter text, units bigint, requests bigint, second bigint, dims text, buckets text,  -- U; buckets: a,b,c or ''
    boot_id text, pod text, software text,                                                           -- H
    detail text                                                                                      -- T: the torn one; F: {"bucket": ceiling}
  ) on commit delete rows;
  create temp table if not exists staged_incarnations (
    id bigint, shard smallint, incarnation text, watermark bigint, alive boolean, hello boolean, taken bigint) on commit delete rows;
  create temp table if not exists taken_sums (
    tenant text, bucket text, account bigint, epoch bigint, units numeric, requests numeric) on commit delete rows;
end $$;

-- Registration and its opposite, under the epoch row's lock (rules 5 and 6).
create function book_registrations(p_now timestamptz) returns void language plpgsql as $$
begin
  perform from shard_epochs where shard in (select shard from usage_staging where kind in ('H', 'T')) order by shard for share;
  if not found then return; end if;
  insert into incarnations (shard, incarnation, first_epoch, boot_id, pod, software, registered_at)
    select distinct on (h.shard, h.incarnation) h.shard, h.incarnation, s.number, h.boot_id, h.pod, h.software, p_now
      from usage_staging h join shard_epochs s on s.shard = h.shard
     where h.kind = 'H' and h.seq = 1
     order by h.shard, h.incarnation
    on conflict (shard, incarnation) do nothing;
end $$;

-- Final reports and torn logs among the records taken. The locks on incarnations are held.
create function book_reports(p_now timestamptz) returns void language plpgsql as $$
begin
  insert into final_reports (incarnation_id, epoch, name, ceiling, seq, reported_at)
    select distinct on (i.id, s.epoch, c.key) i.id, s.epoch, c.key, c.value::bigint, s.seq, p_now
      from usage_staging s join staged_incarnations i using (shard, incarnation), jsonb_each_text(s.detail::jsonb) c
     where s.kind = 'F' and s.seq > i.watermark and s.seq <= i.watermark + i.taken
     order by i.id, s.epoch, c.key, s.seq desc
    on conflict (incarnation_id, epoch, name) do update set ceiling = excluded.ceiling, seq = excluded.seq,
      reported_at = excluded.reported_at where final_reports.seq < excluded.seq;
  update incarnations t set torn = true, last_epoch = coalesce(t.last_epoch, e.number)
    from usage_staging s join staged_incarnations i using (shard, incarnation) join shard_epochs e on e.shard = s.shard
   where s.kind = 'T' and s.seq > i.watermark and s.seq <= i.watermark + i.taken
     and t.shard = s.shard and t.incarnation = s.detail;
end $$;

-- Inserts the records taken; leaves their sums per bucket and epoch in taken_sums. The staging tables have no statistics:
-- without nested loops a misjudged plan cannot be a slow one. The planner's penalty for the one that is left would start
-- the JIT, which takes longer than the query.
create function book_records(p_now timestamptz) returns void language plpgsql
set enable_nestloop = off set jit = off as $$
begin
  with inserted as (
    insert into usage_records (incarnation_id, seq, shard, tenant, meter, units, requests, second, dims, buckets, epoch, flag, booked_at)
      select i.id, s.seq, s.shard, s.tenant, s.meter, s.units, s.requests, to_timestamp(s.second), s.dims::jsonb,
             case when s.buckets = '' then '{}'::text[] else string_to_array(s.buckets, ',') end, s.epoch,
             case when t.id is null then 'unknown-tenant' end, p_now
        from usage_staging s join staged_incarnations i using (shard, incarnation) left join tenants t on t.id = s.tenant
       where s.kind = 'U' and s.seq > i.watermark and s.seq <= i.watermark + i.taken
      returning tenant, buckets, epoch, units, requests),
  by_list as (
    select tenant, buckets, epoch, sum(units) as units, sum(requests) as requests from inserted group by 1, 2, 3)
  insert into taken_sums (tenant, bucket, epoch, units, requests)
    select tenant, bucket, epoch, sum(units), sum(requests) from by_list, unnest(buckets) as bucket
     -- Windows shorter than an hour live in Redis alone.
     where right(bucket, 1) = '$' or split_part(bucket, '+', 2)::numeric >= 3600
     group by 1, 2, 3;
end $$;

-- Bounded, so that no record can make a batch fail: 2^60.
create function bounded(p_value numeric) returns bigint language sql immutable as $$
  select least(p_value, 1152921504606846976)::bigint
$$;

-- Charges a wallet account for units after those booked so far, and posts it. The wallet and the account are locked.
create function book_wallet(p_account bigint, p_units numeric, p_now timestamptz) returns void language plpgsql as $$
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
  update escrow_accounts set booked = bounded(booked + p_units) where id = a.id;
  if v_cost > 0 then
    insert into wallets (tenant, currency) values (a.tenant, m.currency) on conflict do nothing;
    update wallets set balance_micros = balance_micros - v_cost where tenant = a.tenant and currency = m.currency;
    perform ledger_post('wallet_usage', format('wallet_usage/%s/%s', a.id, a.booked), format('%s units of %s', p_units, a.name),
      p_now, ledger_account(a.tenant, 'wallet', m.currency), ledger_account(null, 'revenue', m.currency), v_cost);
  end if;
  perform escrow_rehold(a.id);
end $$;

-- Adds taken_sums to accounts and floats; an account that is not there is made: usage is never lost.
create function book_sums(p_now timestamptz) returns void language plpgsql as $$
declare
  r record;
begin
  perform from wallets w where w.tenant in (select tenant from taken_sums where right(bucket, 1) = '$')
    order by w.tenant, w.currency for no key update;
  insert into escrow_accounts (tenant, bucket, name, wallet, window_start, window_end, created_at)
    select s.tenant, s.bucket, case when s.wallet then left(s.bucket, -1) else split_part(s.bucket, '@', 1) end, s.wallet,
           case when not s.wallet then to_timestamp(s.start_s) end, case when not s.wallet then to_timestamp(s.start_s + s.length_s) end, p_now
      from (select distinct tenant, bucket, right(bucket, 1) = '$' as wallet,
                   nullif(split_part(split_part(bucket, '@', 2), '+', 1), '')::double precision as start_s,
                   nullif(split_part(bucket, '+', 2), '')::double precision as length_s from taken_sums) s
     where not exists (select from escrow_accounts a where a.tenant = s.tenant and a.bucket = s.bucket)
     order by s.tenant, s.bucket
    on conflict (tenant, bucket) do nothing;
  perform from escrow_accounts a where exists (select from taken_sums s where s.tenant = a.tenant and s.bucket = a.bucket)
    order by a.tenant, a.bucket for no key update;
  update taken_sums s set account = a.id from escrow_accounts a where a.tenant = s.tenant and a.bucket = s.bucket;

  update escrow_floats f set booked = bounded(f.booked + s.units)
    from taken_sums s where f.account = s.account and f.epoch = s.epoch and s.epoch > 0;
  update escrow_accounts a
     set booked = bounded(a.booked + case when a.wallet then 0 else s.units end), requests = bounded(a.requests + s.requests),
         crossed_at = coalesce(a.crossed_at, case when l.cap = 'soft' and a.booked + s.units > l.amount then p_now end)
    from (select account, sum(units) as units, sum(requests) as requests, min(tenant) as tenant, min(bucket) as bucket
            from taken_sums group by account) s
    left join tenant_limits l on l.tenant = s.tenant and l.limit_name = split_part(s.bucket, '@', 1)
   where a.id = s.account;
  for r in select s.account, sum(s.units) as units from taken_sums s where right(s.bucket, 1) = '$'
            group by s.account order by min(s.tenant), min(s.bucket) loop
    perform book_wallet(r.account, r.units, p_now);
  end loop;
end $$;

-- Books what usage_staging holds. Per incarnation and shard only the contiguous continuation of its watermark is taken,
-- however often, in whatever order or with what gaps records come (rule 10); records are booked as they name buckets, units
-- and epoch, whatever the time or price now (rule 11). Answers each known incarnation of the batch with its watermark, how
-- many records were taken, whether it said hello and may lease (register it under o_epoch).
create function book_batch(p_now timestamptz)
returns table (o_shard integer, o_incarnation text, o_watermark bigint, o_taken bigint, o_register boolean, o_epoch bigint)
language plpgsql as $$
begin
  perform book_registrations(p_now);
  insert into staged_incarnations (id, shard, incarnation, watermark, alive, hello, taken)
    select i.id, i.shard, i.incarnation, i.watermark, i.last_epoch is null, false, 0
      from incarnations i where (i.shard, i.incarnation) in (select distinct s.shard, s.incarnation from usage_staging s)
     order by i.shard, i.incarnation for no key update;
  update staged_incarnations i set hello = r.hello, taken = r.taken
    from (-- Contiguous where a record's place among the distinct new ones is its distance from the watermark.
          select id, bool_or(seq = 1 and kind = 'H') as hello,
                 count(distinct seq) filter (where contiguous) as taken
            from (select w.id, s.kind, s.seq, s.seq > w.watermark and s.seq = w.watermark
                         + dense_rank() over (partition by w.id, s.seq > w.watermark order by s.seq) as contiguous
                    from usage_staging s join staged_incarnations w using (shard, incarnation)) numbered
           group by id) r
   where r.id = i.id;
  -- A sidecar that resends may have sent a record twice within the batch.
  if (select sum(taken) from staged_incarnations) < (select count(*) from usage_staging) then
    delete from usage_staging s using (
      select ctid as place, row_number() over (partition by shard, incarnation, seq) as copy from usage_staging) c
     where s.ctid = c.place and c.copy > 1;
  end if;
  perform book_reports(p_now);
  perform book_records(p_now);
  perform book_sums(p_now);
  update incarnations i set watermark = s.watermark + s.taken from staged_incarnations s where i.id = s.id and s.taken > 0;
  return query
    select s.shard::integer, s.incarnation, s.watermark + s.taken, s.taken, s.hello and s.alive, e.number
      from staged_incarnations s join shard_epochs e on e.shard = s.shard;
end $$;
