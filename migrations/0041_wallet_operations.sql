-- The wallet's operations, decided one by one and written together. What a hundred callers ask at once costs the statements of
-- one: the wallets are locked and all that the decisions need is read for the whole batch, `wallet_decide` holds the rules and
-- touches nothing, `wallet_write` writes what was decided. A single operation is a batch of one.
--
-- The statements are planned once per connection, and find their rows by index: a plan made for how many operations there are this
-- time is never better, and one made while a table is small is kept while it grows.
--
-- Locks as before: shard_epochs, wallets by (tenant, currency), reservations, escrow_accounts.

create type wallet_operation as (
  n integer,                                        -- the caller's number
  operation text,                                   -- purchase, reserve, commit or release
  tenant text,
  key text,
  fingerprint text,
  currency text,
  call_id text,
  amount_micros bigint,
  expires_at timestamptz,
  description text,
  now timestamptz,
  recalled jsonb,                                   -- of a batch of one only: it locks a shard, which comes before all wallets
  may_recall boolean
);

-- What an operation does, and its answer.
create type wallet_effect as (
  r wallet_result,
  kind text,                                        -- of credit_transactions; null: it does nothing
  key text,
  fingerprint text,
  balance_micros bigint,                            -- by how much the balance changes; the other side is `house`'s
  reserved_micros bigint,                           -- by how much the holds change
  house text,
  resolves bigint,                                  -- the transfer of the hold
  source text,                                      -- of the transfer, unique
  description text,
  at timestamptz,
  transfer bigint,
  opens boolean                                     -- a reservation is made; else one that is there changes, or none
);

-- A tenant's wallet as it is, and why there is none to speak of (reason), or nothing new is sold to it (blocked).
create function wallet_found(p_tenant text, p_currency text) returns table (currency text, balance_micros bigint,
    reserved_micros bigint, float_micros bigint, debt_limit_micros bigint, reason text, blocked text) language sql stable as $$
  select case count(w.tenant) when 1 then min(w.currency) else p_currency end,
         case count(w.tenant) when 1 then min(w.balance_micros) else 0 end,
         case count(w.tenant) when 1 then min(w.reserved_micros) else 0 end,
         case count(w.tenant) when 1 then min(w.held_micros) else 0 end,
         case count(w.tenant) when 1 then min(w.debt_limit_micros) else 0 end,
         case when count(w.tenant) = 1 then '' when count(w.tenant) > 1 then 'CurrencyRequired'
              when count(t.id) > 0 then 'NoWallet' else 'UnknownTenant' end,
         case when bool_or(t.deleted_at is not null) then 'TenantDeleted'
              when bool_or(t.suspended or w.suspended_reason is not null) then 'Suspended' else '' end
    from (select p_tenant as id) one left join tenants t on t.id = one.id
    left join wallets w on w.tenant = t.id and (p_currency is null or w.currency = p_currency)
$$;

create function wallet_facts_of(p_tenant text, p_currency text, p_balance bigint, p_reserved bigint, p_float bigint,
                                p_debt_limit bigint, p_reason text) returns wallet_result language plpgsql immutable as $$
declare
  r wallet_result;
begin
  r.success := p_reason = ''; r.duplicate := false; r.reason := p_reason; r.tenant := p_tenant; r.currency := p_currency;
  r.balance_micros := p_balance; r.reserved_micros := p_reserved; r.float_micros := p_float;
  r.effective_micros := p_balance - p_reserved - p_float; r.debt_limit_micros := p_debt_limit;
  r.requested_micros := 0; r.shortfall_micros := 0;
  return r;
end $$;

create or replace function wallet_facts(p_tenant text, p_currency text) returns wallet_result language plpgsql stable as $$
begin
  return (select wallet_facts_of(p_tenant, f.currency, f.balance_micros, f.reserved_micros, f.float_micros, f.debt_limit_micros, f.reason)
            from wallet_found(p_tenant, p_currency) f);
end $$;

-- The first answer to a key, or to a call: `t` is what was done then.
create function wallet_repeated(t credit_transactions, p_reservation bigint) returns wallet_result language plpgsql stable as $$
declare
  r wallet_result := jsonb_populate_record(null::wallet_result, t.result);
begin
  r.duplicate := true; r.transaction_id := t.id; r.reservation_id := p_reservation;
  return r;
end $$;

create or replace function wallet_replay(r wallet_result, p_key text, p_fingerprint text) returns wallet_result
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
  return wallet_repeated(t, (select id from credit_reservations where tenant = t.tenant and call_id = t.call_id));
end $$;

create function wallet_key(o wallet_operation) returns text language sql immutable as $$
  select coalesce(o.key, case when o.operation <> 'purchase' then '~' || o.operation || '/' || md5(o.call_id) end)
$$;

-- The rules. `r`: the wallet, or why there is none. `t`: what its key did. `c`: the reservation of its call. Reads more in the
-- rare case that something is repeated, or that float is to be recalled.
create function wallet_decide(o wallet_operation, r wallet_result, p_blocked text, t credit_transactions, c credit_reservations)
returns wallet_effect language plpgsql stable as $$
declare
  e wallet_effect;
  v_fault text := '';
  v_hold bigint := case when c.state = 'pending' then c.amount_micros else 0 end;
  v_short bigint := 0;
begin
  e.key := wallet_key(o); e.description := coalesce(o.description, ''); e.at := o.now; e.opens := false;
  e.fingerprint := case when o.fingerprint is not null then o.operation || ':' || o.fingerprint
    when o.operation = 'purchase' then wallet_fingerprint(o.operation, null, o.currency, o.amount_micros::text)
    when o.operation = 'release' then wallet_fingerprint(o.operation, null, o.call_id)
    else wallet_fingerprint(o.operation, null, o.currency, o.call_id, o.amount_micros::text) end;
  -- What is asked for.
  if r.reason <> '' and (o.operation <> 'release' or r.reason = 'UnknownTenant') then e.r := r; return e; end if;
  if o.operation <> 'purchase' and wallet_key_fault(o.call_id) <> '' then v_fault := 'InvalidCall';
  elsif wallet_key_fault(case o.operation when 'purchase' then o.key else coalesce(o.key, 'none') end) <> '' then v_fault := 'InvalidKey';
  elsif o.operation <> 'release' and not (o.operation = 'commit' and o.amount_micros is not distinct from 0) then
    v_fault := wallet_amount_fault(o.amount_micros);
  end if;
  if v_fault <> '' then
    e.r := wallet_refused(r, v_fault, case o.operation when 'release' then 0 else o.amount_micros end);
    return e;
  end if;
  -- What was done before.
  if t.id is not null then
    e.r := case when t.fingerprint <> e.fingerprint then wallet_refused(r, 'IdempotencyMismatch')
                else wallet_repeated(t, case when c.call_id = t.call_id then c.id else (select x.id from credit_reservations x
                       where x.tenant = t.tenant and x.call_id = t.call_id) end) end;
    return e;
  end if;
  if c.id is not null then
    if o.operation = 'commit' and c.currency <> r.currency then
      e.r := wallet_refused(r, 'CurrencyMismatch', o.amount_micros);
      return e;
    elsif o.operation = 'reserve' or (o.operation = 'commit' and c.commit_transaction is not null) then  -- under another key
      if (case o.operation when 'reserve' then c.amount_micros <> o.amount_micros or c.currency <> r.currency
                           else c.committed_micros <> o.amount_micros end) then
        e.r := wallet_refused(wallet_with_reservation(r, c), 'IdempotencyMismatch', o.amount_micros);
      else
        select x.* into t from credit_transactions x
         where x.id = case o.operation when 'reserve' then c.reserve_transaction else c.commit_transaction end;
        e.r := wallet_repeated(t, c.id);
      end if;
      return e;
    elsif o.operation = 'commit' and c.state = 'released' then
      e.r := wallet_refused(wallet_with_reservation(r, c), 'AlreadyReleased', o.amount_micros);
      return e;
    elsif o.operation = 'release' and c.state <> 'pending' then  -- released or expired: the hold is free
      r := wallet_with_reservation(r, c); r.duplicate := true;
      e.r := case c.state when 'committed' then wallet_refused(r, 'AlreadyCommitted') else r end;
      return e;
    end if;
  elsif o.operation = 'release' then
    e.r := wallet_refused(r, 'UnknownReservation');
    return e;
  end if;
  -- What the wallet allows. A purchase or a hold is never into debt; a commit draws on its hold, the balance, then the debt limit.
  if o.operation in ('purchase', 'reserve') then
    v_fault := case when o.operation = 'reserve' and (o.expires_at is null or o.expires_at <= o.now) then 'InvalidExpiry' else p_blocked end;
    if v_fault <> '' then e.r := wallet_refused(r, v_fault, o.amount_micros); return e; end if;
    v_short := o.amount_micros - r.effective_micros;
  elsif o.operation = 'commit' and o.amount_micros > v_hold then  -- a cost within the hold is always taken
    v_short := o.amount_micros - v_hold - r.effective_micros - r.debt_limit_micros;
  end if;
  if v_short > 0 then
    if c.id is not null then r := wallet_with_reservation(r, c); end if;
    e.r := wallet_short(r, case o.operation when 'commit' then 'DebtLimitExceeded' else 'InsufficientBalance' end, o.amount_micros,
                        v_short, o.may_recall);
    return e;
  end if;
  -- What it does.
  r.requested_micros := coalesce(o.amount_micros, 0); r.call_id := o.call_id;
  e.kind := o.operation; e.house := 'revenue'; e.balance_micros := 0; e.reserved_micros := -v_hold;
  if o.operation = 'purchase' then
    e.balance_micros := -o.amount_micros;
    e.source := 'purchase/' || o.tenant || '/' || o.key;
  elsif o.operation = 'reserve' then
    e.reserved_micros := o.amount_micros; e.opens := true;
    r.state := 'pending'; r.amount_micros := o.amount_micros; r.released_micros := 0; r.expires_at := o.expires_at;
    e.source := 'hold/' || o.tenant || '/' || o.call_id;
  elsif o.operation = 'commit' then
    e.balance_micros := -o.amount_micros; e.opens := c.id is null;
    if v_hold > 0 then e.resolves := c.hold; else e.kind := 'direct'; end if;
    r.reservation_id := c.id; r.amount_micros := coalesce(c.amount_micros, 0); r.committed_micros := o.amount_micros;
    r.released_micros := greatest(0, v_hold - o.amount_micros); r.expires_at := c.expires_at;
    r.state := case c.state when 'expired' then 'expired' else 'committed' end;
    e.source := 'call/' || o.tenant || '/' || o.call_id;
  else
    r := wallet_with_reservation(r, c);
    e.resolves := c.hold; r.requested_micros := 0; r.state := 'released'; r.released_micros := c.amount_micros;
    e.source := 'release/' || o.tenant || '/' || o.call_id;
  end if;
  e.r := r;
  return e;
end $$;

-- The wallet after it, and the numbers of what will be written.
create function wallet_applied(e wallet_effect) returns wallet_effect language plpgsql as $$
declare
  r wallet_result := e.r;
begin
  r.balance_micros := r.balance_micros + e.balance_micros; r.reserved_micros := r.reserved_micros + e.reserved_micros;
  r.effective_micros := r.balance_micros - r.reserved_micros - r.float_micros;
  r.success := true; r.duplicate := false; r.reason := ''; r.shortfall_micros := 0; r.recall := null;
  r.transaction_id := nextval('credit_transactions_id_seq');
  if e.opens then r.reservation_id := nextval('credit_reservations_id_seq'); end if;
  e.r := r; e.transfer := nextval('ledger_transfers_id_seq');
  return e;
end $$;

-- Writes what was decided under the wallets' locks: balances, transfers with their postings, the history; and reservations, where
-- some of them are made (p_opens) or change (p_changes).
create function wallet_write(p_effects wallet_effect[], p_opens boolean, p_changes boolean) returns void language plpgsql security definer set search_path = public, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  update wallets w set balance_micros = w.balance_micros + s.balance, reserved_micros = w.reserved_micros + s.reserved
    from (select (e.r).tenant, (e.r).currency, sum(e.balance_micros)::bigint as balance, sum(e.reserved_micros)::bigint as reserved
            from unnest(p_effects) e group by 1, 2) s
   where w.tenant = s.tenant and w.currency = s.currency;
  insert into ledger_transfers (id, kind, source, memo, posted_at, tenant, resolves) overriding system value
    select e.transfer, case e.kind when 'reserve' then 'hold' else e.kind end, e.source, e.description, e.at, (e.r).tenant, e.resolves
      from unnest(p_effects) e;
  insert into ledger_postings (transfer, account, amount)
    select e.transfer, coalesce(case when l.tenant is null
             then (select a.id from ledger_accounts a where a.tenant is null and a.kind = l.kind and a.commodity = (e.r).currency)
             else (select a.id from ledger_accounts a where a.tenant = l.tenant and a.kind = l.kind and a.commodity = (e.r).currency) end,
           ledger_account(l.tenant, l.kind, (e.r).currency)), l.amount
      from unnest(p_effects) e
     cross join lateral (values ((e.r).tenant, 'wallet', e.balance_micros - e.reserved_micros), ((e.r).tenant, 'holds', e.reserved_micros),
                                (null, e.house, -e.balance_micros)) l (tenant, kind, amount)
     where l.amount <> 0;
  -- What the answer is besides its numbers.
  insert into credit_transactions (id, tenant, currency, idempotency_key, fingerprint, kind, amount_micros, balance_after_micros,
                                   call_id, description, transfer, result, created_at)
    select (e.r).transaction_id, (e.r).tenant, (e.r).currency, e.key, e.fingerprint, e.kind, e.balance_micros, (e.r).balance_micros,
           (e.r).call_id, e.description, e.transfer, jsonb_strip_nulls(to_jsonb(e.r)) - '{transaction_id,reservation_id}'::text[], e.at
      from unnest(p_effects) e;
  if p_opens then
    insert into credit_reservations (id, tenant, currency, call_id, state, amount_micros, committed_micros, expires_at, hold,
                                     reserve_transaction, commit_transaction, created_at, resolved_at) overriding system value
      select (e.r).reservation_id, (e.r).tenant, (e.r).currency, (e.r).call_id, (e.r).state, (e.r).amount_micros,
             (e.r).committed_micros, coalesce((e.r).expires_at, e.at), case e.kind when 'reserve' then e.transfer end,
             case e.kind when 'reserve' then (e.r).transaction_id end, case e.kind when 'direct' then (e.r).transaction_id end, e.at,
             case e.kind when 'direct' then e.at end
        from unnest(p_effects) e where e.opens;
  end if;
  if p_changes then
    update credit_reservations c
       set state = (e.r).state, committed_micros = (e.r).committed_micros, resolved_at = coalesce(c.resolved_at, e.at),
           commit_transaction = case when e.kind in ('commit', 'direct') then (e.r).transaction_id else c.commit_transaction end
      from unnest(p_effects) e where c.id = (e.r).reservation_id and not e.opens;
  end if;
end $$;

-- Decides and writes operations, tenant by tenant, a tenant's in their order. Sees all tenants, and serves the API's role.
create function wallet_operate(p_operations wallet_operation[]) returns table (r wallet_result, n integer)
language plpgsql security definer set search_path = public, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
  o record;
  e wallet_effect;
  v_operations wallet_operation[] := p_operations;
  v_later wallet_operation[];
  v_effects wallet_effect[];
  v_locked text[];
  v_caller text := current_setting('tallygate.tenant', true);
  v_wallet wallet_result;                           -- of v_tenant, as the effects so far leave it; null: not seen yet
  v_tenant text;
  v_waits boolean;                                  -- an operation of this tenant waits for what was decided to be written
  v_used text[];                                    -- keys and calls of those
  v_opens boolean;                                  -- reservations are made
  v_changes boolean;                                -- reservations change
begin
  if (p_operations[1]).recalled is not null and cardinality(p_operations) = 1 then
    perform set_config('tallygate.tenant', (p_operations[1]).tenant, true);
    perform apply_recall((p_operations[1]).tenant, (p_operations[1]).recalled);
  end if;
  v_locked := array(select l.wallet from (select w.tenant || ' ' || w.currency as wallet from wallets w
    where w.tenant = any (array(select x.tenant from unnest(p_operations) x)) order by w.tenant, w.currency for no key update) l);
  while cardinality(v_operations) > 0 loop
    v_effects := '{}'; v_later := '{}'; v_tenant := null; v_opens := false; v_changes := false;
    for o in select x as operation, f.currency, f.balance_micros, f.reserved_micros, f.float_micros, f.debt_limit_micros, f.reason,
                    f.blocked, t as seen, c as reservation, wallet_key(x) as key, 'call ' || x.call_id as call
               from unnest(v_operations) x
               left join credit_reservations c on c.tenant = x.tenant and c.call_id = x.call_id
               left join credit_transactions t on t.tenant = x.tenant and t.idempotency_key = wallet_key(x)
              cross join lateral wallet_found(x.tenant, coalesce(x.currency, case when x.operation in ('commit', 'release') then c.currency end)) f
              order by x.tenant, x.n loop
      if (o.operation).tenant is null or coalesce((o.operation).operation, '') not in ('purchase', 'reserve', 'commit', 'release')
         or ((o.operation).operation = 'purchase' and (o.operation).call_id is not null)
         or ((o.operation).operation = 'release' and (o.operation).currency is not null)
         or ((o.operation).recalled is not null and cardinality(p_operations) > 1) then
        raise exception 'operation % is malformed: a purchase has no call, a release no currency, and what was recalled is alone',
          (o.operation).n using errcode = 'invalid_parameter_value';
      end if;
      if v_tenant is distinct from (o.operation).tenant then
        v_tenant := (o.operation).tenant; v_wallet := null; v_waits := false; v_used := '{}';
      end if;
      if v_waits or o.key = any (v_used) or o.call = any (v_used) or (o.reason = '' and v_wallet.currency <> o.currency) then
        v_waits := true;
        v_later := v_later || o.operation;
        continue;
      end if;
      -- One that was opened while this waited for the locks is not locked: for these operations it came too late.
      if o.reason = '' and v_wallet.currency is null and not v_tenant || ' ' || o.currency = any (v_locked) then o.reason := 'NoWallet'; end if;
      if o.reason <> '' then
        e := wallet_decide(o.operation, wallet_facts_of(v_tenant, o.currency, 0, 0, 0, 0, o.reason), o.blocked, o.seen, o.reservation);
      else
        if v_wallet.currency is null then
          v_wallet := wallet_facts_of(v_tenant, o.currency, o.balance_micros, o.reserved_micros, o.float_micros, o.debt_limit_micros, '');
          -- recall_plan wants to know for whom.
          if o.float_micros > 0 then perform set_config('tallygate.tenant', v_tenant, true); end if;
        end if;
        e := wallet_decide(o.operation, v_wallet, o.blocked, o.seen, o.reservation);
      end if;
      if e.kind is not null then
        e := wallet_applied(e);
        v_effects := v_effects || e;
        v_used := v_used || o.key || o.call;
        v_opens := v_opens or e.opens; v_changes := v_changes or e.reserved_micros < 0 or e.kind = 'direct';
        v_wallet.balance_micros := (e.r).balance_micros; v_wallet.reserved_micros := (e.r).reserved_micros;
        v_wallet.effective_micros := (e.r).effective_micros;
      end if;
      r := e.r; n := (o.operation).n;
      return next;
    end loop;
    if cardinality(v_effects) > 0 then perform wallet_write(v_effects, v_opens, v_changes); end if;
    v_operations := v_later;
  end loop;
  if current_setting('tallygate.tenant', true) is distinct from v_caller then
    perform set_config('tallygate.tenant', coalesce(v_caller, ''), true);
  end if;
end $$;

-- One operation, for a tenant whom the caller sees.
create function wallet_operate_one(o wallet_operation) returns wallet_result language plpgsql as $$
begin
  if not exists (select from tenants where id = o.tenant) then return wallet_facts(o.tenant, o.currency); end if;
  return (select x.r from wallet_operate(array[o]) x);
end $$;

-- A purchase: never into debt.
create or replace function check_balance_and_deduct_asset_cost(p_tenant text, p_key text, p_fingerprint text, p_currency text,
    p_amount_micros bigint, p_description text, p_now timestamptz, p_recalled jsonb default null,
    p_may_recall boolean default true) returns wallet_result language plpgsql as $$
begin
  return wallet_operate_one(row (0, 'purchase', p_tenant, p_key, p_fingerprint, p_currency, null, p_amount_micros, null, p_description,
                                 p_now, p_recalled, p_may_recall));
end $$;

-- A hold for a call, one per call id: never into debt.
create or replace function reserve_call_credits(p_tenant text, p_key text, p_fingerprint text, p_currency text, p_call_id text,
    p_amount_micros bigint, p_expires_at timestamptz, p_description text, p_now timestamptz, p_recalled jsonb default null,
    p_may_recall boolean default true) returns wallet_result language plpgsql as $$
begin
  return wallet_operate_one(row (0, 'reserve', p_tenant, p_key, p_fingerprint, p_currency, p_call_id, p_amount_micros, p_expires_at,
                                 p_description, p_now, p_recalled, p_may_recall));
end $$;

-- Charges a call: out of its hold, then the balance, then the debt limit. Without a hold, or after its expiry, the call is billed
-- directly; each call is charged at most once, however it comes.
create or replace function commit_reserved_credits(p_tenant text, p_key text, p_fingerprint text, p_currency text, p_call_id text,
    p_cost_micros bigint, p_description text, p_now timestamptz, p_recalled jsonb default null,
    p_may_recall boolean default true) returns wallet_result language plpgsql as $$
begin
  return wallet_operate_one(row (0, 'commit', p_tenant, p_key, p_fingerprint, p_currency, p_call_id, p_cost_micros, null, p_description,
                                 p_now, p_recalled, p_may_recall));
end $$;

create or replace function release_reserved_credits(p_tenant text, p_key text, p_fingerprint text, p_call_id text, p_description text,
    p_now timestamptz) returns wallet_result language plpgsql as $$
begin
  return wallet_operate_one(row (0, 'release', p_tenant, p_key, p_fingerprint, null, p_call_id, null, null, p_description, p_now, null,
                                 false));
end $$;

-- p_ops: an array of objects, each a wallet_operation by its names. If one raises an error, all are undone. In place of
-- wallet_batch and status_check_batch, which stay for operators of before that still run while a deployment is upgraded.
create function wallet_operations(p_ops jsonb) returns table (r wallet_result, n integer) language plpgsql as $$
begin
  return query select x.r, x.n from wallet_operate(array(select o from jsonb_populate_recordset(null::wallet_operation, p_ops) o)) x;
end $$;

create function lock_wallets(p_tenant text) returns void language plpgsql security definer set search_path = public, pg_temp as $$
begin
  if current_setting('role') = 'tallygate_api' then perform require_own_tenant(p_tenant); end if;
  perform from wallets where tenant = p_tenant order by currency for no key update;
end $$;

create or replace function wallet_begin(p_tenant text, p_currency text, p_recalled jsonb default null) returns wallet_result
language plpgsql as $$
begin
  if p_recalled is not null then perform apply_recall(p_tenant, p_recalled); end if;
  perform lock_wallets(t.id) from tenants t where t.id = p_tenant;
  return wallet_facts(p_tenant, p_currency);
end $$;

-- Of money that moves otherwise (top-ups, adjustments, refunds, disputes): posts it under a source of its own, writes the history,
-- and completes the answer. The wallet is locked, all is checked.
create or replace function wallet_done(r wallet_result, p_kind text, p_key text, p_fingerprint text, p_balance bigint, p_reserved bigint,
                            p_house text, p_resolves bigint, p_source text, p_description text, p_now timestamptz)
returns wallet_result language plpgsql as $$
declare
  e wallet_effect;
begin
  e.r := r; e.kind := p_kind; e.key := p_key; e.fingerprint := p_fingerprint; e.balance_micros := p_balance;
  e.reserved_micros := p_reserved; e.house := p_house; e.resolves := p_resolves; e.source := p_source;
  e.description := coalesce(p_description, ''); e.at := p_now; e.opens := false;
  e := wallet_applied(e);
  perform wallet_write(array[e], false, false);
  return e.r;
end $$;

-- Frees the holds of abandoned calls, at most `p_limit` of them.
create or replace function cleanup_expired_reservations(p_now timestamptz, p_limit integer)
returns table (tenant text, currency text, call_id text, amount_micros bigint) language plpgsql as $$
#variable_conflict use_column
declare
  c credit_reservations;
  r wallet_result;
  e wallet_effect;
  v_ids bigint[];
  v_effects wallet_effect[] := '{}';
begin
  select array_agg(d.id) into v_ids from (select id from credit_reservations
    where state = 'pending' and expires_at <= p_now order by expires_at limit least(p_limit, 10000)) d;
  perform from wallets w where w.tenant in (select x.tenant from credit_reservations x where x.id = any (v_ids))
    order by w.tenant, w.currency for no key update;
  for c in select * from credit_reservations x where x.id = any (v_ids) and x.state = 'pending' and x.expires_at <= p_now
            order by x.tenant, x.currency, x.call_id for no key update loop
    if r.tenant is distinct from c.tenant or r.currency <> c.currency then r := wallet_facts(c.tenant, c.currency); end if;
    r := wallet_with_reservation(r, c); r.state := 'expired'; r.released_micros := c.amount_micros;
    e.r := r; e.kind := 'expire'; e.key := '~expire/' || md5(c.call_id); e.fingerprint := 'expire'; e.balance_micros := 0;
    e.reserved_micros := -c.amount_micros; e.resolves := c.hold; e.source := format('expire/%s/%s', c.tenant, c.call_id);
    e.description := ''; e.at := p_now; e.opens := false;
    e := wallet_applied(e);
    r.reserved_micros := (e.r).reserved_micros; r.effective_micros := (e.r).effective_micros;
    v_effects := v_effects || e;
    tenant := c.tenant; currency := c.currency; call_id := c.call_id; amount_micros := c.amount_micros;
    return next;
  end loop;
  if cardinality(v_effects) > 0 then perform wallet_write(v_effects, false, true); end if;
end $$;

-- The kill switch, of several calls. A call that is under way keeps what it has on hold. Float is money on loan, not spent: it is
-- recalled when a call is charged, so a wallet whose balance is not all reserved ends no call.
-- p_ops: an array of {"n", "tenant", "currency", "call_id"}.
create function status_checks(p_ops jsonb)
returns table (end_call boolean, reason text, currency text, balance_micros bigint, reserved_micros bigint, float_micros bigint,
               effective_micros bigint, debt_limit_micros bigint, call_hold_micros bigint, n integer)
language plpgsql stable security definer set search_path = public, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
begin
  return query
    select v.reason <> '', v.reason, f.currency, f.balance_micros, f.reserved_micros, f.float_micros,
           f.balance_micros - f.reserved_micros - f.float_micros, f.debt_limit_micros, h.micros, o.n
      from jsonb_to_recordset(p_ops) as o (n integer, tenant text, currency text, call_id text)
     cross join lateral wallet_found(o.tenant, o.currency) f
      -- By its unique key alone: a condition on the state would invite the planner to walk all that are pending.
      left join credit_reservations c on c.tenant = o.tenant and c.call_id = o.call_id
     cross join lateral (select case when c.state = 'pending' and c.currency = f.currency then c.amount_micros else 0 end as micros) h
     cross join lateral (select case when f.reason <> '' then f.reason when f.blocked <> '' then f.blocked
                                     when f.balance_micros - f.reserved_micros + h.micros <= 0 then 'ZeroBalance' else '' end as reason) v;
end $$;

-- Of one call, of a tenant whom the caller sees.
create or replace function status_check(p_tenant text, p_currency text, p_call_id text default null,
    out end_call boolean, out reason text, out currency text, out balance_micros bigint, out reserved_micros bigint,
    out float_micros bigint, out effective_micros bigint, out debt_limit_micros bigint, out call_hold_micros bigint)
language plpgsql stable as $$
begin
  select s.end_call, s.reason, s.currency, s.balance_micros, s.reserved_micros, s.float_micros, s.effective_micros, s.debt_limit_micros,
         s.call_hold_micros
    into end_call, reason, currency, balance_micros, reserved_micros, float_micros, effective_micros, debt_limit_micros, call_hold_micros
    from status_checks(jsonb_build_array(jsonb_build_object('n', 0, 'currency', p_currency, 'call_id', p_call_id,
           'tenant', (select t.id from tenants t where t.id = p_tenant)))) s;
end $$;

-- What the API's role wrote itself is written for it now, and it makes no money.
revoke execute on function wallet_write(wallet_effect[], boolean, boolean), wallet_operate(wallet_operation[]), status_checks(jsonb), lock_wallets(text),
  wallet_open(text, text), add_wallet_credits(text, text, text, text, bigint, text, timestamptz) from public;
grant execute on function wallet_write(wallet_effect[], boolean, boolean), wallet_open(text, text),
  add_wallet_credits(text, text, text, text, bigint, text, timestamptz) to tallygate_pipeline, tallygate_admin;
grant execute on function wallet_operate(wallet_operation[]), status_checks(jsonb), lock_wallets(text)
  to tallygate_api, tallygate_pipeline, tallygate_admin;
revoke insert on ledger_accounts, ledger_transfers, ledger_postings, credit_transactions from tallygate_api, tallygate_admin;
revoke insert, update on credit_reservations from tallygate_api, tallygate_admin;
revoke insert, update (balance_micros, reserved_micros) on wallets from tallygate_api;
revoke update (balance_micros, reserved_micros) on wallets from tallygate_admin;
revoke execute on function close_dispute(text, text, boolean, timestamptz), cleanup_expired_reservations(timestamptz, integer) from tallygate_admin;
drop function wallet_blocked(text, text);
