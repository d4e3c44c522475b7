-- Money that one wallet bucket has on loan and does not use pays for another of the same wallet (DESIGN rule 12).

drop function recall_plan(text, text, bigint);
-- Which idle floats to take back for `p_missing`: [{"account", "shard", "epoch", "bucket", "target"}], null where all of
-- them together would not do. What Redis has lent to sidecars is among them: it gives back what it has. Not of `p_except`.
create function recall_plan(p_tenant text, p_currency text, p_missing bigint, p_except bigint default null)
returns jsonb language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
  a record;
  v_missing bigint := p_missing;
  v_held bigint;
  v_take bigint;
  v_plan jsonb := '[]';
begin
  perform require_own_tenant(p_tenant);
  for a in select e.id, e.bucket, e.booked, e.held_micros, m.tiers, m.per_units, s.shard, f.epoch, f.recalled,
                  redis_units(f) as idle
             from escrow_accounts e join tenants t on t.id = e.tenant join shard_epochs s on s.shard = t.shard
             join tenant_meters m on m.tenant = e.tenant and m.meter = e.name and m.settlement = 'wallet'
             join escrow_floats f on f.account = e.id and f.epoch = s.number and redis_units(f) > 0
            where e.tenant = p_tenant and e.wallet and e.held_currency = p_currency and e.held_micros > 0
              and e.id is distinct from p_except
            order by e.bucket limit 1000 loop
    v_held := held_units(a.id);
    v_take := least(a.idle, v_held - affordable_units(a.tiers, a.per_units, a.booked, greatest(0, a.held_micros - v_missing)));
    continue when v_take <= 0;
    v_missing := v_missing - (a.held_micros - greatest(0, rated_hold(a.tiers, a.per_units, a.booked, v_held - v_take))::bigint);
    v_plan := v_plan || jsonb_build_object('account', a.id, 'shard', a.shard, 'epoch', a.epoch, 'bucket', a.bucket,
                                           'target', a.recalled + v_take);
    if v_missing <= 0 then return v_plan; end if;
  end loop;
  return null;
end $$;
revoke execute on function recall_plan(text, text, bigint, bigint) from public;
grant execute on function recall_plan(text, text, bigint, bigint) to tallygate_api, tallygate_pipeline, tallygate_admin;

-- For wallet buckets that could not be funded with what was asked for: what to take back from their wallet's others.
-- p_requests: [{"n", "tenant", "bucket", "units"}]; a row for each that would be helped.
create function funding_recall_plans(p_requests jsonb) returns table (n integer, plan jsonb) language plpgsql stable as $$
declare
  r record;
  v_missing numeric;
begin
  for r in select x.n, x.units, a.id, a.tenant, a.booked, a.held_micros, m.tiers, m.per_units, w.currency,
                  w.balance_micros::numeric + w.debt_limit_micros - w.held_micros - w.reserved_micros as free
             from jsonb_to_recordset(p_requests) as x (n integer, tenant text, bucket text, units bigint)
             join escrow_accounts a on a.tenant = x.tenant and a.bucket = x.bucket and a.wallet
             join tenant_meters m on m.tenant = a.tenant and m.meter = a.name and m.settlement = 'wallet'
             join wallets w on w.tenant = a.tenant and w.currency = m.currency and w.held_micros > a.held_micros
            where w.suspended_reason is null loop
    v_missing := rated_hold(r.tiers, r.per_units, r.booked, held_units(r.id) + r.units::numeric) - r.held_micros - r.free;
    continue when v_missing <= 0 or v_missing > 9223372036854775807;
    plan := recall_plan(r.tenant, r.currency, v_missing::bigint, r.id);
    continue when plan is null;
    n := r.n;
    return next;
  end loop;
end $$;

-- The kill switch. A call that is under way keeps what it has on hold. Float is money on loan, not spent: it is recalled when a
-- call is charged, so a wallet whose balance is not all reserved ends no call.
create or replace function status_check(p_tenant text, p_currency text, p_call_id text default null,
    out end_call boolean, out reason text, out currency text, out balance_micros bigint, out reserved_micros bigint,
    out float_micros bigint, out effective_micros bigint, out debt_limit_micros bigint, out call_hold_micros bigint)
language plpgsql stable as $$
declare
  r wallet_result := wallet_facts(p_tenant, p_currency);
  c credit_reservations;
begin
  currency := r.currency; balance_micros := r.balance_micros; reserved_micros := r.reserved_micros;
  float_micros := r.float_micros; effective_micros := r.effective_micros; debt_limit_micros := r.debt_limit_micros;
  call_hold_micros := 0;
  if p_call_id is not null then
    -- By its unique key alone: a condition on the state would invite the planner to walk all that are pending.
    select * into c from credit_reservations x where x.tenant = p_tenant and x.call_id = p_call_id;
    if c.state = 'pending' and c.currency = r.currency then call_hold_micros := c.amount_micros; end if;
  end if;
  reason := r.reason;
  if reason = '' then reason := wallet_blocked(p_tenant, r.currency); end if;
  if reason = '' and effective_micros + float_micros + call_hold_micros <= 0 then reason := 'ZeroBalance'; end if;
  end_call := reason <> '';
end $$;
