-- What the wallet's operations are made of. Locks, in one order everywhere: shard_epochs, wallets by (tenant, currency),
-- reservations, escrow_accounts. Every operation locks all wallets of its tenant first: a key is looked up under that lock, so
-- two requests with one key never pass it both.

-- The wallet as it is; reason says where there is none to speak of. p_currency null: the tenant's only wallet.
create function wallet_facts(p_tenant text, p_currency text) returns wallet_result language plpgsql stable as $$
declare
  r wallet_result;
  v_found bigint;
begin
  r.success := false; r.duplicate := false; r.reason := ''; r.tenant := p_tenant; r.currency := p_currency;
  r.balance_micros := 0; r.reserved_micros := 0; r.float_micros := 0; r.effective_micros := 0; r.debt_limit_micros := 0;
  r.requested_micros := 0; r.shortfall_micros := 0;
  select count(*), min(w.currency), coalesce(min(w.balance_micros), 0), coalesce(min(w.reserved_micros), 0),
         coalesce(min(w.held_micros), 0), coalesce(min(w.debt_limit_micros), 0)
    into v_found, r.currency, r.balance_micros, r.reserved_micros, r.float_micros, r.debt_limit_micros
    from wallets w where w.tenant = p_tenant and (p_currency is null or w.currency = p_currency);
  if v_found = 1 then
    r.effective_micros := r.balance_micros - r.reserved_micros - r.float_micros;
    r.success := true;
    return r;
  end if;
  r.currency := p_currency; r.balance_micros := 0; r.reserved_micros := 0; r.float_micros := 0; r.debt_limit_micros := 0;
  r.reason := case when v_found > 1 then 'CurrencyRequired'
                   when exists (select from tenants where id = p_tenant) then 'NoWallet' else 'UnknownTenant' end;
  return r;
end $$;

-- Why nothing new is sold to this wallet, or ''.
create function wallet_blocked(p_tenant text, p_currency text) returns text language sql stable as $$
  select case when t.deleted_at is not null then 'TenantDeleted'
              when t.suspended or exists (select from wallets w where w.tenant = t.id and w.currency = p_currency
                                             and w.suspended_reason is not null) then 'Suspended' else '' end
    from tenants t where t.id = p_tenant
$$;

-- Functions that see more than the caller's role does serve no other tenant than that of its transaction.
create function require_own_tenant(p_tenant text) returns void language plpgsql stable as $$
begin
  if (current_setting('role') = 'tallygate_api' or not pg_has_role(session_user, 'tallygate_pipeline', 'usage'))
     and current_setting('tallygate.tenant', true) is distinct from p_tenant then
    raise exception 'another tenant' using errcode = 'insufficient_privilege';
  end if;
end $$;

-- Counts what Redis gave back, where its epoch is still current (rule 12). The totals are cumulative.
create function apply_recall(p_tenant text, p_recalled jsonb) returns void language plpgsql
security definer set search_path = public, pg_temp as $$
declare
  r record;
begin
  perform require_own_tenant(p_tenant);
  perform from shard_epochs where shard = (select shard from tenants where id = p_tenant) for share;
  perform from wallets where tenant = p_tenant order by currency for no key update;
  for r in select a.id, x.epoch, x.total
             from jsonb_to_recordset(p_recalled) as x (account bigint, epoch bigint, total bigint)
             join escrow_accounts a on a.id = x.account and a.tenant = p_tenant and a.wallet
             join tenants t on t.id = a.tenant join shard_epochs s on s.shard = t.shard and s.number = x.epoch
            order by a.tenant, a.bucket limit 1000 for no key update of a loop
    update escrow_floats set recalled = greatest(recalled, least(r.total, funded)) where account = r.id and epoch = r.epoch;
    perform escrow_rehold(r.id);
  end loop;
end $$;

-- Which idle floats to take back for `p_missing`: [{"account", "shard", "epoch", "bucket", "target"}], null where all of
-- them together would not do. What Redis has lent to sidecars is among them: it gives back what it has.
create function recall_plan(p_tenant text, p_currency text, p_missing bigint) returns jsonb language plpgsql stable
security definer set search_path = public, pg_temp as $$
declare
  a record;
  v_missing bigint := p_missing;
  v_held bigint;
  v_take bigint;
  v_plan jsonb := '[]';
begin
  perform require_own_tenant(p_tenant);
  for a in select e.id, e.bucket, e.booked, e.held_micros, m.tiers, m.per_units, s.shard, f.epoch, f.recalled,
                  f.funded - f.booked - f.recalled as idle
             from escrow_accounts e join tenants t on t.id = e.tenant join shard_epochs s on s.shard = t.shard
             join tenant_meters m on m.tenant = e.tenant and m.meter = e.name and m.settlement = 'wallet'
             join escrow_floats f on f.account = e.id and f.epoch = s.number and f.funded > f.booked + f.recalled
            where e.tenant = p_tenant and e.wallet and e.held_currency = p_currency and e.held_micros > 0
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

-- Locks the tenant's wallets, counts what was recalled, and answers the wallet's facts.
create function wallet_begin(p_tenant text, p_currency text, p_recalled jsonb default null) returns wallet_result
language plpgsql as $$
begin
  if p_recalled is not null then perform apply_recall(p_tenant, p_recalled); end if;
  perform from wallets where tenant = p_tenant order by currency for no key update;
  return wallet_facts(p_tenant, p_currency);
end $$;

create function wallet_refused(r wallet_result, p_reason text, p_requested bigint default 0, p_shortfall bigint default 0)
returns wallet_result language plpgsql immutable as $$
begin
  r.success := false; r.duplicate := false; r.reason := p_reason;
  r.requested_micros := p_requested; r.shortfall_micros := p_shortfall;
  return r;
end $$;

-- Refused for want of money, or RecallFloat where idle floats may help.
create function wallet_short(r wallet_result, p_reason text, p_requested bigint, p_shortfall bigint, p_may_recall boolean)
returns wallet_result language plpgsql stable as $$
begin
  r := wallet_refused(r, p_reason, p_requested, p_shortfall);
  if coalesce(p_may_recall, false) and r.float_micros > 0 then
    r.recall := recall_plan(r.tenant, r.currency, p_shortfall);
    if r.recall is not null then r.reason := 'RecallFloat'; end if;
  end if;
  return r;
end $$;

-- The first answer to this key, as a duplicate; a mismatch; or an answer without reason: the key is new.
create function wallet_replay(r wallet_result, p_key text, p_fingerprint text) returns wallet_result
language plpgsql stable as $$
declare
  t credit_transactions;
begin
  select * into t from credit_transactions where tenant = r.tenant and idempotency_key = p_key;
  if not found then
    r.reason := null;
    return r;
  end if;
  if t.fingerprint <> p_fingerprint then return wallet_refused(r, 'IdempotencyMismatch'); end if;
  r := jsonb_populate_record(null::wallet_result, t.result);
  r.duplicate := true;
  r.transaction_id := t.id;
  if t.call_id is not null then
    select id into r.reservation_id from credit_reservations where tenant = t.tenant and call_id = t.call_id;
  end if;
  return r;
end $$;

-- Moves money: the balance by p_balance (the house's account takes the other side), holds by p_reserved (out of the wallet).
-- Posts it under a source of its own, writes the history, and completes the answer. The wallet is locked, all is checked.
create function wallet_done(r wallet_result, p_kind text, p_key text, p_fingerprint text, p_balance bigint, p_reserved bigint,
                            p_house text, p_resolves bigint, p_source text, p_description text, p_now timestamptz)
returns wallet_result language plpgsql as $$
declare
  v_transfer bigint;
  v_wallet bigint;
  v_holds bigint;
  v_house bigint;
begin
  update wallets set balance_micros = balance_micros + p_balance, reserved_micros = reserved_micros + p_reserved
   where tenant = r.tenant and currency = r.currency
   returning balance_micros, reserved_micros, held_micros into strict r.balance_micros, r.reserved_micros, r.float_micros;
  r.effective_micros := r.balance_micros - r.reserved_micros - r.float_micros;
  insert into ledger_transfers (kind, source, memo, posted_at, tenant, resolves)
    values (case p_kind when 'reserve' then 'hold' else p_kind end, p_source, coalesce(p_description, ''), p_now, r.tenant, p_resolves)
    returning id into v_transfer;
  -- Accounts first: the statement that inserts a posting must see its account.
  if p_balance <> p_reserved then v_wallet := ledger_account(r.tenant, 'wallet', r.currency); end if;
  if p_reserved <> 0 then v_holds := ledger_account(r.tenant, 'holds', r.currency); end if;
  if p_balance <> 0 then v_house := ledger_account(null, p_house, r.currency); end if;
  insert into ledger_postings (transfer, account, amount)
    select v_transfer, account, amount
      from (values (v_wallet, p_balance - p_reserved), (v_holds, p_reserved), (v_house, -p_balance)) legs (account, amount)
     where account is not null;
  r.success := true; r.duplicate := false; r.reason := ''; r.shortfall_micros := 0; r.recall := null;
  insert into credit_transactions (tenant, currency, idempotency_key, fingerprint, kind, amount_micros, balance_after_micros,
                                   call_id, description, transfer, result, created_at)
    values (r.tenant, r.currency, p_key, p_fingerprint, p_kind, p_balance, r.balance_micros, r.call_id,
            coalesce(p_description, ''), v_transfer, jsonb_strip_nulls(to_jsonb(r)), p_now)
    returning id into r.transaction_id;
  return r;
end $$;

-- Keys that begin with ~ are the ledger's own: no caller's key can be in their way.
create function wallet_key_fault(p_key text) returns text language sql immutable as $$
  select case when p_key is null or length(p_key) not between 1 and 255 or left(p_key, 1) = '~' then 'InvalidKey' else '' end
$$;

create function wallet_amount_fault(p_amount bigint) returns text language sql immutable as $$
  select case when p_amount is null or p_amount not between 1 and 1000000000000000 then 'InvalidAmount' else '' end
$$;

-- A fingerprint of the request, where the caller has none.
create function wallet_fingerprint(p_operation text, p_fingerprint text, variadic p_parts text[]) returns text
language sql immutable as $$
  select p_operation || ':' || coalesce(p_fingerprint, md5(array_to_string(p_parts, '|', '')))
$$;

-- Floats may not use what is reserved, and a suspended wallet funds nothing new.
create or replace function escrow_capacity(p_account escrow_accounts, p_now timestamptz) returns bigint language plpgsql as $$
declare
  l tenant_limits;
  m tenant_meters;
  w wallets;
begin
  if p_account.wallet then
    select * into m from tenant_meters where tenant = p_account.tenant and meter = p_account.name and settlement = 'wallet';
    if not found then return null; end if;
    select * into w from wallets where tenant = p_account.tenant and currency = m.currency;
    if not found then return null; end if;
    if w.suspended_reason is not null then return p_account.booked; end if;
    return p_account.booked + affordable_units(m.tiers, m.per_units, p_account.booked,
        w.balance_micros::numeric + w.debt_limit_micros - w.held_micros - w.reserved_micros + p_account.held_micros);
  end if;
  select * into l from tenant_limits where tenant = p_account.tenant and limit_name = p_account.name;
  if not found then return null; end if;
  if l.cap = 'soft' and l.grace_duration_s > 0 and p_account.crossed_at + l.grace_duration_s * interval '1 second' <= p_now then
    return l.amount;
  end if;
  return l.capacity;
end $$;
