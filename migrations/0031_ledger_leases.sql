-- The ledger-backed lease (SPEC A8): while Redis is away, units go straight from the ledger to one incarnation under the current
-- epoch of its shard. They obey the rules of units leased from Redis: booked by records that name (bucket, epoch), on hold until
-- then, ended by a newer epoch (rule 7). `funded` does not count them, for fund.lua compares totals (rule 4).

create table ledger_leases (
  account bigint not null references escrow_accounts,
  epoch bigint not null,
  incarnation_id bigint not null references incarnations,
  granted bigint not null default 0 check (granted >= 0),    -- cumulative totals
  returned bigint not null default 0,
  closed boolean not null default false,            -- its incarnation, or that one's successor, has settled it: nothing changes any more
  primary key (account, epoch, incarnation_id),
  check (returned between 0 and granted)
) with (fillfactor = 70);

alter table escrow_floats add column lent bigint not null default 0 check (lent >= 0);  -- granted − returned of its ledger_leases

-- Units on hold in floats and ledger leases.
create or replace function held_units(p_account bigint) returns bigint language sql stable as $$
  select coalesce(sum(greatest(0, funded + lent - booked - recalled)), 0)::bigint from escrow_floats where account = p_account
$$;

-- Most units of a float that Redis may still have, or has leased to sidecars: what was booked may have been ledger leases'.
create function redis_units(f escrow_floats) returns bigint language sql immutable as $$
  select greatest(0, f.funded - f.recalled - greatest(0, f.booked - f.lent))
$$;

-- Raises what an incarnation has returned to a cumulative total. Its account, and a wallet's wallets, are locked, here and below.
create function ledger_lease_return(p_account bigint, p_epoch bigint, p_incarnation bigint, p_total bigint) returns void
language plpgsql as $$
declare
  l ledger_leases;
  v_back bigint;
begin
  select * into l from ledger_leases where account = p_account and epoch = p_epoch and incarnation_id = p_incarnation;
  v_back := least(p_total, l.granted) - l.returned;
  if not found or l.closed or v_back <= 0 then return; end if;
  update ledger_leases set returned = returned + v_back
   where account = p_account and epoch = p_epoch and incarnation_id = p_incarnation;
  update escrow_floats set lent = lent - v_back where account = p_account and epoch = p_epoch;
  perform escrow_rehold(id) from escrow_accounts where id = p_account and wallet;
end $$;

create function ledger_lease_grant(p_account bigint, p_epoch bigint, p_incarnation bigint, p_units bigint, p_now timestamptz)
returns void language plpgsql as $$
begin
  if p_units <= 0 then return; end if;
  insert into ledger_leases (account, epoch, incarnation_id, granted) values (p_account, p_epoch, p_incarnation, p_units)
    on conflict (account, epoch, incarnation_id) do update set granted = ledger_leases.granted + p_units;
  insert into escrow_floats (account, epoch, lent) values (p_account, p_epoch, p_units)
    on conflict (account, epoch) do update set lent = escrow_floats.lent + p_units;
  perform escrow_rehold(id) from escrow_accounts where id = p_account and wallet;
  if available(p_account, p_now) < 0 then
    raise exception 'NoOvershoot: leasing % units of account % leaves less than nothing', p_units, p_account;
  end if;
end $$;

-- What may be lent of an account: nothing once its window is over, as with funding.
create function lendable(p_account bigint, p_now timestamptz) returns bigint language sql stable as $$
  select coalesce((select available(a.id, p_now) from escrow_accounts a
                    where a.id = p_account and (a.window_end is null or a.window_end > p_now - interval '1 minute')), 0)
$$;

-- Settles an incarnation's lease of an epoch for good: of what it spent there in all, the ledger lease paid for as much as it
-- can (`o_absorbed`), the rest of the lease comes back, and what it spent beyond came from Redis. Repeated, it answers the same.
create function ledger_lease_close(p_account bigint, p_epoch bigint, p_incarnation bigint, p_spent bigint, out o_absorbed bigint)
language plpgsql as $$
declare
  l ledger_leases;
begin
  insert into ledger_leases (account, epoch, incarnation_id) values (p_account, p_epoch, p_incarnation) on conflict do nothing;
  select * into l from ledger_leases where account = p_account and epoch = p_epoch and incarnation_id = p_incarnation;
  perform ledger_lease_return(p_account, p_epoch, p_incarnation, l.granted - least(p_spent, l.granted - l.returned));
  update ledger_leases set closed = true where account = p_account and epoch = p_epoch and incarnation_id = p_incarnation
    returning least(granted - returned, p_spent) into o_absorbed;
end $$;

-- Grants what is least wanted of each bucket first, lest one take what another cannot do without: all or nothing. Answers
-- the buckets that are short, none where all is granted: `o_waits` where what is missing may lie in Redis.
create function ledger_lease_least(p_tenant text, p_epoch bigint, p_incarnation bigint, p_buckets jsonb, p_now timestamptz)
returns table (o_bucket text, o_waits boolean) language plpgsql as $$
declare
  b record;
  v_short jsonb := '[]';
begin
  begin
    for b in select x.bucket, a.id, greatest(0, x.least - coalesce(l.granted, 0)) as units,
                    coalesce(redis_units(f), 0) as in_redis, 0::bigint as available
               from jsonb_to_recordset(p_buckets) as x (bucket text, least bigint)
               left join escrow_accounts a on a.tenant = p_tenant and a.bucket = x.bucket
               left join escrow_floats f on f.account = a.id and f.epoch = p_epoch
               left join ledger_leases l on l.account = a.id and l.epoch = p_epoch and l.incarnation_id = p_incarnation
              order by x.bucket loop
      b.available := lendable(b.id, p_now);
      if b.units = 0 or b.available >= b.units then  -- less than nothing is there after a lowered limit
        perform ledger_lease_grant(b.id, p_epoch, p_incarnation, b.units, p_now);
      else
        v_short := v_short || jsonb_build_object('bucket', b.bucket, 'waits', b.available + b.in_redis >= b.units);
      end if;
    end loop;
    if v_short <> '[]' then raise exception using errcode = 'TG001'; end if;
  exception when sqlstate 'TG001' then null;  -- undoes the grants
  end;
  return query select x.bucket, x.waits from jsonb_to_recordset(v_short) as x (bucket text, waits boolean);
end $$;

-- Then each up to the best total wanted, within a fair share of what is available: a half, by how many incarnations hold
-- ledger leases of this bucket.
create function ledger_lease_best(p_account bigint, p_epoch bigint, p_incarnation bigint, p_best bigint, p_now timestamptz)
returns void language plpgsql as $$
declare
  v_granted bigint := coalesce((select granted from ledger_leases where account = p_account and epoch = p_epoch and incarnation_id = p_incarnation), 0);
  v_holders bigint := 1 + (select count(*) from ledger_leases where account = p_account and epoch = p_epoch
                              and incarnation_id <> p_incarnation and granted > returned and not closed);
begin
  perform ledger_lease_grant(p_account, p_epoch, p_incarnation,
                             least(p_best - v_granted, lendable(p_account, p_now) / (2 * v_holders)), p_now);
end $$;

-- Leases units of several buckets of one tenant to an incarnation, all or nothing; takes back what it returns whatever comes of
-- that. Totals are cumulative per (incarnation, bucket, epoch): a call repeated or answered late changes nothing twice.
-- p_buckets: [{"bucket", "least", "best", "returned"}]: the least and the best total wanted, the total returned.
-- p_closed: [{"bucket", "epoch", "spent"}]: leases that are settled for good (ledger_lease_close), of any epoch.
-- Statuses, as lease.lua's (rule 13):
--   GRANT      every bucket has what was least wanted
--   DRY        some bucket has not: the ledger says exhausted
--   WAIT       some bucket has not, and what is missing may lie in Redis
--   EPOCH      o_epoch is the current one; only p_closed was looked at
--   REG        the incarnation is not registered, is gone, or has settled its lease; as above
--   SUSPENDED  nothing new is sold to this tenant
--   NONE       there is no such tenant
-- o_buckets: [{"bucket", "granted", "returned", "remaining": what others could still get, "used": booked, "dry": version or ''}].
-- o_closed: [{"bucket", "epoch", "absorbed"}]. o_doc: the published document where its version is not p_version.
create function ledger_lease(p_tenant text, p_incarnation text, p_epoch bigint, p_version bigint, p_buckets jsonb, p_closed jsonb,
                             p_now timestamptz, out o_status text, out o_epoch bigint, out o_version bigint, out o_doc jsonb,
                             out o_suspended boolean, out o_buckets jsonb, out o_closed jsonb) language plpgsql
security definer set search_path = public, pg_temp as $$
declare
  t tenants;
  i incarnations;
  b record;
  v_named text[] := array(select distinct e ->> 'bucket' from jsonb_array_elements(p_buckets || p_closed) e order by 1);
  v_short text[] := '{}';
begin
  perform require_own_tenant(p_tenant);
  o_status := 'NONE'; o_epoch := 0; o_suspended := true; o_buckets := '[]'; o_closed := '[]';
  if exists (select from unnest(v_named) n where right(n, 1) <> '$' and split_part(n, '+', 2)::numeric < 3600) then
    raise exception 'windows shorter than an hour live in Redis alone' using errcode = 'invalid_parameter_value';
  end if;
  select * into t from tenants where id = p_tenant;
  if not found then return; end if;
  o_version := t.version;
  o_suspended := t.suspended or t.deleted_at is not null
                 or exists (select from wallets where tenant = p_tenant and suspended_reason is not null);
  o_doc := case when t.version is distinct from p_version and t.deleted_at is null then t.doc end;
  o_status := 'REG';
  select number into o_epoch from shard_epochs where shard = t.shard for share;
  select * into i from incarnations where shard = t.shard and incarnation = p_incarnation;
  if not found then return; end if;
  if exists (select from unnest(v_named) n where right(n, 1) = '$') then
    perform from wallets where tenant = p_tenant order by currency for no key update;
  end if;
  perform from escrow_accounts where tenant = p_tenant and bucket = any (v_named) order by tenant, bucket for no key update;
  perform escrow_account_for_funding(p_tenant, n, p_now) from unnest(v_named) n;  -- made where there is none

  for b in select x.*, a.id from jsonb_to_recordset(p_closed) as x (bucket text, epoch bigint, spent bigint)
             join escrow_accounts a on a.tenant = p_tenant and a.bucket = x.bucket where x.epoch <= o_epoch loop
    o_closed := o_closed || jsonb_build_object('bucket', b.bucket, 'epoch', b.epoch,
                                               'absorbed', ledger_lease_close(b.id, b.epoch, i.id, b.spent));
  end loop;
  if i.last_epoch is not null or i.first_epoch > o_epoch then return; end if;
  if p_epoch <> o_epoch or o_epoch = 0 then o_status := 'EPOCH'; return; end if;
  if exists (select from ledger_leases l join escrow_accounts a on a.id = l.account where a.tenant = p_tenant and l.closed
                and a.bucket = any (v_named) and l.epoch = p_epoch and l.incarnation_id = i.id) then return; end if;

  perform ledger_lease_return(a.id, p_epoch, i.id, x.returned) from jsonb_to_recordset(p_buckets) as x (bucket text, returned bigint)
     join escrow_accounts a on a.tenant = p_tenant and a.bucket = x.bucket;
  o_status := 'SUSPENDED';
  if not o_suspended then
    select coalesce(array_agg(o_bucket), '{}'), case when bool_and(o_waits) then 'WAIT' when count(*) > 0 then 'DRY' else 'GRANT' end
      into v_short, o_status from ledger_lease_least(p_tenant, p_epoch, i.id, p_buckets, p_now);
  end if;
  if o_status = 'GRANT' then
    perform ledger_lease_best(a.id, p_epoch, i.id, x.best, p_now) from jsonb_to_recordset(p_buckets) as x (bucket text, best bigint)
       join escrow_accounts a on a.tenant = p_tenant and a.bucket = x.bucket;
  end if;
  select coalesce(jsonb_agg(jsonb_build_object('bucket', x.bucket, 'granted', coalesce(l.granted, 0), 'returned', coalesce(l.returned, 0),
           'remaining', least(9007199254740991, greatest(0, lendable(a.id, p_now))), 'used', coalesce(a.booked, 0),
           'dry', case when x.bucket = any (v_short) then coalesce(a.version, 0)::text else '' end) order by x.place), '[]') into o_buckets
    from rows from (jsonb_to_recordset(p_buckets) as (bucket text)) with ordinality as x (bucket, place)
    left join escrow_accounts a on a.tenant = p_tenant and a.bucket = x.bucket
    left join ledger_leases l on l.account = a.id and l.epoch = p_epoch and l.incarnation_id = i.id;
end $$;

-- The audit looks at leases too.
alter function ledger_audit() rename to ledger_money_audit;
create function ledger_audit() returns table (check_name text, tenant text, commodity text, expected numeric, actual numeric, detail text)
language sql stable as $$
  select * from ledger_money_audit()
  union all
  select 'leases', a.tenant, 'unit:' || a.name, coalesce(l.units, 0), f.lent, 'escrow_floats.lent against ledger_leases, ' || a.bucket
    from escrow_floats f join escrow_accounts a on a.id = f.account
    left join (select x.account, x.epoch, sum(x.granted - x.returned) as units from ledger_leases x group by x.account, x.epoch) l
      on l.account = f.account and l.epoch = f.epoch
   where f.lent <> coalesce(l.units, 0)
$$;

select secure_tables();
revoke execute on function ledger_lease(text, text, bigint, bigint, jsonb, jsonb, timestamptz) from public;
grant execute on function ledger_lease(text, text, bigint, bigint, jsonb, jsonb, timestamptz) to tallygate_api, tallygate_pipeline;
