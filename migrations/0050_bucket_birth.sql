-- A bucket of Redis is funded as itself only, and at the pace of its traffic.
--
-- Birth: the funder marks a bucket when it first sees it (stat.lua), the ledger notes the mark in the transaction that first
-- funds it, and fund.lua funds a bucket of no other mark. So one that Redis has lost is found missing, at whatever moment that
-- was and whoever has died meanwhile, and is never filled a second time in its epoch (DESIGN rule 4).

alter table escrow_floats
  add column born text,                                    -- the mark; null: funded before marks, or only lent
  add column paced_at timestamptz,                         -- the last grant …
  add column paced_out bigint not null default 0;          -- … and how many units had left the bucket by then

drop function fund(integer, bigint, text, text, bigint, bigint, bigint, bigint, bigint, timestamptz);

-- Funds one bucket of the current epoch. F, Rc and free are what Redis says of it: funded, recalled, free; `need` is the
-- largest single request that went short, `want` the most that somebody would have taken at once. Statuses:
--   OK     total = what Redis shall be told (fund.lua), acked = below what it must not know less
--   EPOCH  the epoch is no longer current
--   LOST   Redis knows less than it once acknowledged, or another bucket: open a new epoch (rule 4)
--   NONE   nobody sells this bucket (any more): tell Redis it is dry
-- What Redis has acknowledged is what it says, what fund.lua answered (fund_acknowledged), and what was booked of its units.
-- Grants at most half of what is available (rounded up, so that the last unit is granted too), up to the target; a single
-- request above that gets what it needs, if there is as much. The target follows traffic, since what Redis has is on hold
-- where Redis is lost: half a minute's units at the rate since the last grant, no more than twice what has left the bucket in
-- this epoch or what was wanted at once; at most a quarter of what is available and p_target_units, at least 64.
create function fund(p_shard integer, p_epoch bigint, p_tenant text, p_bucket text, p_funded bigint, p_recalled bigint,
                     p_free bigint, p_need bigint, p_target_units bigint, p_now timestamptz,
                     p_born text default null, p_want bigint default 0,
                     out o_status text, out o_total bigint, out o_acked bigint, out o_avail bigint, out o_used bigint,
                     out o_dry text, out o_low bigint, out o_granted bigint) language plpgsql as $$
declare
  a escrow_accounts;
  f escrow_floats;
  v_capacity bigint;
  v_free bigint;
  v_out bigint;
  v_pace numeric;
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
    insert into escrow_floats (account, epoch, acked, recalled, born) values (a.id, p_epoch, p_funded, p_recalled, p_born)
      on conflict (account, epoch) do update set acked = greatest(escrow_floats.acked, excluded.acked),
             recalled = greatest(escrow_floats.recalled, excluded.recalled),
             born = coalesce(escrow_floats.born, excluded.born) returning * into f;
    o_acked := greatest(f.acked, least(f.funded, f.booked - f.lent));
    if p_funded < o_acked or p_born <> f.born then o_status := 'LOST'; return; end if;
    -- More than was ever funded: this ledger has lost a commit. What Redis has is on hold all the same.
    if p_funded > f.funded then
      update escrow_floats set funded = p_funded where account = a.id and epoch = p_epoch returning * into f;
      if a.wallet then perform escrow_rehold(a.id); end if;
    end if;
    o_total := f.funded; o_used := a.booked;
  end if;
  if v_capacity is null then
    o_status := 'NONE'; o_dry := coalesce(a.version, 0)::text; o_total := greatest(o_total, p_funded); o_acked := p_funded;
    return;
  end if;
  o_status := 'OK';
  o_avail := v_capacity - a.booked - held_units(a.id);
  v_free := p_free + (f.funded - p_funded);            -- with what is funded and not yet there
  v_out := greatest(0, f.funded - f.recalled - v_free);
  v_pace := 30 * (v_out - f.paced_out) / greatest(1, extract(epoch from p_now - coalesce(f.paced_at, p_now)));
  v_target := greatest(least(o_avail / 4, p_target_units, greatest(p_want, least(2 * v_out, v_pace))), least(64, p_target_units));
  if o_avail > 0 and (v_free < (v_target + 1) / 2 or p_need > v_free) then
    o_granted := least(o_avail, greatest(p_need - v_free, least(v_target - v_free, (o_avail + 1) / 2)));
    update escrow_floats set funded = funded + o_granted, paced_at = p_now, paced_out = v_out
     where account = a.id and epoch = p_epoch returning funded into o_total;
    if a.wallet then perform escrow_rehold(a.id); end if;
    o_avail := v_capacity - a.booked - held_units(a.id);
    if o_avail < 0 or a.wallet and available(a.id, p_now) < 0 then
      raise exception 'NoOvershoot: funding % of % left % available', p_bucket, p_tenant, o_avail;
    end if;
  end if;
  o_avail := greatest(0, o_avail);
  if o_avail = 0 then o_dry := a.version::text; end if;
  o_low := greatest(1, v_target / 2);
end $$;

-- p_requests: [{"n", "shard", "epoch", "tenant", "bucket", "f", "rc", "free", "need", "want", "born"}]; n is the caller's own
-- number, given back with each answer.
create or replace function fund_batch(p_requests jsonb, p_target_units bigint, p_now timestamptz)
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
             f bigint, rc bigint, free bigint, need bigint, want bigint, born text) order by tenant, bucket loop
    return query select r.n, g.* from fund(r.shard, r.epoch, r.tenant, r.bucket, r.f, r.rc, r.free, r.need, p_target_units, p_now,
                                           nullif(r.born, ''), coalesce(r.want, 0)) g;
  end loop;
end $$;

-- What fund.lua answered: [{"tenant", "bucket", "epoch", "total"}].
create function fund_acknowledged(p_answers jsonb) returns void language plpgsql as $$
begin
  perform from escrow_accounts a
    where (a.tenant, a.bucket) in (select x.tenant, x.bucket from jsonb_to_recordset(p_answers) as x (tenant text, bucket text))
    order by a.tenant, a.bucket for no key update;
  update escrow_floats f set acked = x.total
    from jsonb_to_recordset(p_answers) as x (tenant text, bucket text, epoch bigint, total bigint)
    join escrow_accounts a on a.tenant = x.tenant and a.bucket = x.bucket
   where f.account = a.id and f.epoch = x.epoch and f.acked < x.total;
end $$;
