-- The wallet's operations, read by one statement for a batch and written by one. See docs/adr/0007.

-- Wallets first, as whatever moves money takes them: who has one ends, who has none waits, and then goes on with functions that are gone: it
-- fails and has written nothing. Some read another table first; no deadlock with those, and no wait for them while nobody else can work.
do $$
begin
  loop
    begin
      lock table wallets in access exclusive mode;
      lock table credit_reservations, credit_transactions, ledger_transfers, ledger_postings, ledger_accounts in access exclusive mode nowait;
      return;
    exception when lock_not_available then perform pg_sleep(0.02);
    end;
  end loop;
end $$;

-- The answer to a key, for whoever asks again: columns, where it was JSON. One rewrite of the table.
alter table credit_transactions
  add column reserved_after_micros bigint, add column float_micros bigint, add column debt_limit_micros bigint,
  add column requested_micros bigint, add column state text, add column hold_micros bigint, add column committed_micros bigint,
  add column released_micros bigint, add column expires_at timestamptz;
alter table credit_transactions
  alter column reserved_after_micros type bigint using coalesce((result ->> 'reserved_micros')::bigint, 0),
  alter column float_micros type bigint using coalesce((result ->> 'float_micros')::bigint, 0),
  alter column debt_limit_micros type bigint using coalesce((result ->> 'debt_limit_micros')::bigint, 0),
  alter column requested_micros type bigint using coalesce((result ->> 'requested_micros')::bigint, 0),
  alter column state type text using result ->> 'state',
  alter column hold_micros type bigint using (result ->> 'amount_micros')::bigint,
  alter column committed_micros type bigint using (result ->> 'committed_micros')::bigint,
  alter column released_micros type bigint using (result ->> 'released_micros')::bigint,
  alter column expires_at type timestamptz using (result ->> 'expires_at')::timestamptz;
alter table credit_transactions
  alter column reserved_after_micros set not null, alter column float_micros set not null, alter column debt_limit_micros set not null,
  alter column requested_micros set not null, drop column result;

-- By its key: `is not distinct from` would read every tenant's account of the kind.
create or replace function ledger_account(p_tenant text, p_kind text, p_commodity text) returns bigint language plpgsql as $$
declare
  v_id bigint;
begin
  loop
    if p_tenant is null then
      select id into v_id from ledger_accounts where tenant is null and kind = p_kind and commodity = p_commodity;
    else
      select id into v_id from ledger_accounts where tenant = p_tenant and kind = p_kind and commodity = p_commodity;
    end if;
    if found then return v_id; end if;
    insert into ledger_accounts (tenant, kind, commodity) values (p_tenant, p_kind, p_commodity)
      on conflict do nothing returning id into v_id;
    if found then return v_id; end if;
  end loop;
end $$;

-- The wallet's accounts, once it has moved money.
alter table wallets add column wallet_account bigint references ledger_accounts, add column holds_account bigint references ledger_accounts;

-- Nothing reads these. A statement of an account is of some time, so of some transfers, which the primary key finds.
drop index ledger_transfers_posted_at, ledger_transfers_tenant, ledger_postings_account;

-- What the wallet writes is written by one statement (wallet_write): with a transfer its postings, its transaction and its reservation,
-- all of a wallet that the same statement changes, or it fails. So only the postings' references are left to check: of those, and of
-- transfers that are made elsewhere. ledger_audit looks for all others.
drop trigger ledger_transfers_references on ledger_transfers;
drop trigger credit_transactions_references on credit_transactions;
drop trigger credit_reservations_new_references on credit_reservations;
drop trigger credit_reservations_changed_references on credit_reservations;
drop function check_transfer_references(), check_transaction_references(), check_reservation_references();
create or replace function check_zero_sum() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
  bad record;
begin
  select p.transfer, p.commodity, sum(p.amount) as total into bad
    from (select n.transfer, n.amount, (select a.commodity from ledger_accounts a where a.id = n.account) as commodity
            from new_postings n offset 0) p  -- offset: each row is looked up once
   group by p.transfer, p.commodity
  having sum(p.amount) <> 0 or p.commodity is null or (select t.id from ledger_transfers t where t.id = p.transfer) is null limit 1;
  if not found then return null; end if;
  if bad.total <> 0 and bad.commodity is not null then
    raise exception 'ZeroSum: the postings added to transfer % in % sum to %', bad.transfer, bad.commodity, bad.total
      using errcode = 'integrity_constraint_violation';
  end if;
  perform refuse_reference(tg_table_name, 'transfer or account', bad.transfer::text);
end $$;

create or replace function wallet_repeated(t credit_transactions, p_reservation bigint) returns wallet_result language sql immutable as $$
  select row (true, true, '', t.tenant, t.currency, t.balance_after_micros, t.reserved_after_micros, t.float_micros,
              t.balance_after_micros - t.reserved_after_micros - t.float_micros, t.debt_limit_micros, t.requested_micros, 0, t.id,
              p_reservation, t.call_id, t.state, t.hold_micros, t.committed_micros, t.released_micros, t.expires_at, null)::wallet_result
$$;

drop function wallet_decide(wallet_operation, wallet_result, text, credit_transactions, credit_reservations);
drop function wallet_key(wallet_operation);
drop function wallet_applied(wallet_effect);

-- What an operation does: its transaction's columns, then what else is written of it. Flat: rows within rows are slow to read.
drop function wallet_write(wallet_effect[], boolean, boolean);
drop type wallet_effect;
create type wallet_effect as (
  n integer,                                        -- the operation's, if there is one
  transaction bigint,
  tenant text,
  currency text,
  balance_micros bigint,                            -- after it
  reserved_micros bigint,
  float_micros bigint,
  debt_limit_micros bigint,
  requested_micros bigint,
  wallet_account bigint,                            -- null: not made yet, or not known
  holds_account bigint,
  reservation bigint,
  call_id text,
  state text,
  amount_micros bigint,                             -- of the reservation
  committed_micros bigint,
  released_micros bigint,
  expires_at timestamptz,
  kind text,                                        -- of the transaction
  key text,
  fingerprint text,
  pays_micros bigint,                               -- by how much the balance changes; the other side is `house`'s
  holds_micros bigint,                              -- by how much the holds change
  house text,
  transfer bigint,
  resolves bigint,                                  -- the transfer of the hold
  source text,                                      -- of the transfer, unique
  description text,
  at timestamptz,
  opens boolean                                     -- a reservation is made; else one that is there changes, or none
);

-- The answer to an operation that does nothing: refused, or done before. `r` is the wallet, `p_verdict` what is against it, '' that
-- `p_short` is missing; `p_seen` is the transaction of its key, `p_reservation` its call's.
create function wallet_not_done(r wallet_result, p_verdict text, p_operation text, p_amount bigint, p_short bigint, p_seen bigint,
                                p_reservation bigint, p_may_recall boolean) returns wallet_result language plpgsql stable as $$
declare
  t credit_transactions;
  c credit_reservations;
begin
  if p_verdict in ('UnknownTenant', 'NoWallet', 'CurrencyRequired') then r.reason := p_verdict; return r; end if;
  select x.* into c from credit_reservations x where x.id = p_reservation;
  if p_verdict = 'repeated' then                    -- its key
    select x.* into t from credit_transactions x where x.id = p_seen;
    return wallet_repeated(t, case when c.call_id = t.call_id then c.id
      else (select x.id from credit_reservations x where x.tenant = t.tenant and x.call_id = t.call_id) end);
  elsif p_verdict = 'repeated_call' then             -- under another key
    if (case p_operation when 'reserve' then c.amount_micros <> p_amount or c.currency <> r.currency
                         else c.committed_micros <> p_amount end) then
      return wallet_refused(wallet_with_reservation(r, c), 'IdempotencyMismatch', p_amount);
    end if;
    select x.* into t from credit_transactions x
     where x.id = case p_operation when 'reserve' then c.reserve_transaction else c.commit_transaction end;
    return wallet_repeated(t, c.id);
  elsif p_verdict in ('AlreadyReleased', 'AlreadyCommitted', 'hold_free') or p_verdict = '' and c.id is not null then
    r := wallet_with_reservation(r, c);
  end if;
  if p_verdict = 'hold_free' then r.duplicate := true; return r; end if;
  if p_verdict = '' then
    -- recall_plan wants to know for whom.
    if r.float_micros > 0 then perform set_config('tallygate.tenant', r.tenant, true); end if;
    return wallet_short(r, case p_operation when 'commit' then 'DebtLimitExceeded' else 'InsufficientBalance' end, p_amount, p_short,
                        p_may_recall);
  end if;
  return wallet_refused(r, p_verdict, case when p_operation = 'release' or p_verdict = 'IdempotencyMismatch' then 0 else p_amount end);
end $$;

create function wallet_malformed(n integer) returns text language plpgsql as $$
begin
  raise exception 'operation % is malformed: a purchase has no call, a release no currency, and what was recalled is alone', n
    using errcode = 'invalid_parameter_value';
end $$;

-- Writes what was decided under the wallets' locks: balances, transfers with their postings, the history, reservations.
create function wallet_write(p_effects wallet_effect[]) returns void language plpgsql security definer set search_path = public, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_paid boolean;
begin
  with effects as materialized (
    select e.*, coalesce(e.wallet_account, ledger_account(e.tenant, 'wallet', e.currency)) as own_wallet,
           coalesce(e.holds_account, ledger_account(e.tenant, 'holds', e.currency)) as own_holds from unnest(p_effects) e),
  sums as materialized (
    select e.tenant, e.currency, min(e.own_wallet) as wallet_account, min(e.own_holds) as holds_account,
           sum(e.pays_micros)::bigint as pays, sum(e.holds_micros)::bigint as holds from effects e group by 1, 2),
  paid as (
    update wallets w set balance_micros = w.balance_micros + s.pays, reserved_micros = w.reserved_micros + s.holds,
                         wallet_account = s.wallet_account, holds_account = s.holds_account
      from sums s where w.tenant = s.tenant and w.currency = s.currency
    returning 1),
  houses as materialized (
    select h.house, h.currency, ledger_account(null, h.house, h.currency) as account
      from (select e.house, e.currency from effects e where e.pays_micros <> 0 group by 1, 2) h),
  transfers as (
    insert into ledger_transfers (id, kind, source, memo, posted_at, tenant, resolves) overriding system value
      select e.transfer, case e.kind when 'reserve' then 'hold' else e.kind end, e.source, e.description, e.at, e.tenant, e.resolves
        from effects e),
  postings as (
    insert into ledger_postings (transfer, account, amount)
      select e.transfer, l.account, l.amount
        from effects e
        left join houses h on e.pays_micros <> 0 and h.house = e.house and h.currency = e.currency
       cross join lateral (values (e.own_wallet, e.pays_micros - e.holds_micros), (e.own_holds, e.holds_micros),
                                  (h.account, -e.pays_micros)) l (account, amount)
       where l.amount <> 0),
  transactions as (
    insert into credit_transactions (id, tenant, currency, idempotency_key, fingerprint, kind, amount_micros, balance_after_micros,
                                     reserved_after_micros, float_micros, debt_limit_micros, requested_micros, call_id, state,
                                     hold_micros, committed_micros, released_micros, expires_at, description, transfer, created_at)
      select e.transaction, e.tenant, e.currency, e.key, e.fingerprint, e.kind, e.pays_micros, e.balance_micros, e.reserved_micros,
             e.float_micros, e.debt_limit_micros, e.requested_micros,
             e.call_id, e.state, e.amount_micros, e.committed_micros, e.released_micros, e.expires_at, e.description, e.transfer, e.at
        from effects e),
  opened as (
    insert into credit_reservations (id, tenant, currency, call_id, state, amount_micros, committed_micros, expires_at, hold,
                                     reserve_transaction, commit_transaction, created_at, resolved_at) overriding system value
      select e.reservation, e.tenant, e.currency, e.call_id, e.state, e.amount_micros, e.committed_micros, coalesce(e.expires_at, e.at),
             case e.kind when 'reserve' then e.transfer end, case e.kind when 'reserve' then e.transaction end,
             case e.kind when 'direct' then e.transaction end, e.at, case e.kind when 'direct' then e.at end
        from effects e where e.opens),
  changed as (
    update credit_reservations c
       set state = e.state, committed_micros = e.committed_micros, resolved_at = coalesce(c.resolved_at, e.at),
           commit_transaction = case when e.kind in ('commit', 'direct') then e.transaction else c.commit_transaction end
      from effects e where c.id = e.reservation and not e.opens)
  select (select count(*) from paid) = (select count(*) from sums) into v_paid;
  if not v_paid then
    raise exception 'a wallet that an operation changes is not there' using errcode = 'foreign_key_violation';
  end if;
end $$;

-- A wallet under a lock of this transaction.
create type wallet_locked as (tenant text, currency text, balance_micros bigint, reserved_micros bigint, float_micros bigint,
  debt_limit_micros bigint, suspended boolean, wallet_account bigint, holds_account bigint, sole boolean);

create function wallet_answer(e wallet_effect) returns wallet_result language sql immutable as $$
  select row (true, false, '', e.tenant, e.currency, e.balance_micros, e.reserved_micros, e.float_micros,
              e.balance_micros - e.reserved_micros - e.float_micros, e.debt_limit_micros, e.requested_micros, 0, e.transaction,
              e.reservation, e.call_id, e.state, e.amount_micros, e.committed_micros, e.released_micros, e.expires_at, null)::wallet_result
$$;

-- Decides and writes operations, tenant by tenant, a tenant's in their order. Sees all tenants, and serves the API's role. One
-- statement reads all that the rules ask for, and says what is against each operation whatever is in its wallet, what it does and what
-- must be free for it; then each is judged by the wallet as those before it leave it. Rows of tables are looked up one by one and by an
-- index, never joined by reading all of a table that was small when the statement was planned.
create or replace function wallet_operate(p_operations wallet_operation[]) returns table (r wallet_result, n integer)
language plpgsql security definer set search_path = public, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
  s record;
  v_operations wallet_operation[] := p_operations;
  v_wallets wallet_locked[];
  v_later bigint[];                                 -- places of those that wait for what was decided to be written
  v_effects wallet_effect[];
  v_caller text := current_setting('tallygate.tenant', true);
  v_tenant text;
  v_currency text;
  v_balance bigint;                                 -- of that wallet, as the effects so far leave it
  v_reserved bigint;
  v_effective bigint;
  v_used text[];                                    -- keys and calls of those
  v_waits boolean;                                  -- an operation of this tenant waits
begin
  if (p_operations[1]).recalled is not null and cardinality(p_operations) = 1 then
    perform set_config('tallygate.tenant', (p_operations[1]).tenant, true);
    perform apply_recall((p_operations[1]).tenant, (p_operations[1]).recalled);
  end if;
  -- One that is opened while this waits for the locks is not there for it.
  v_wallets := array(
    select row (l.tenant, l.currency, l.balance_micros, l.reserved_micros, l.held_micros, l.debt_limit_micros,
                l.suspended_reason is not null, l.wallet_account, l.holds_account, count(*) over (partition by l.tenant) = 1)::wallet_locked
      from (select * from wallets w where w.tenant = any (array(select x.tenant from unnest(v_operations) x))
             order by w.tenant, w.currency for no key update) l);
  loop
    v_effects := '{}'; v_later := '{}'; v_tenant := null;
    for s in
      select x.ordinality as place, x.n, x.operation, x.tenant, coalesce(w.currency, f.currency) as currency, f.key, x.call_id,
             x.amount_micros as amount, x.expires_at, x.description, x.now, x.may_recall,
             f.fingerprint, coalesce(w.balance_micros, 0) as balance, coalesce(w.reserved_micros, 0) as reserved, coalesce(w.float_micros, 0) as float,
             coalesce(w.debt_limit_micros, 0) as debt_limit, w.wallet_account, w.holds_account,
             t.id as seen, c.id as reservation, c.state, c.amount_micros as reserved_amount, c.expires_at as reserved_until, c.hold,
             f.hold_amount,
             case when x.operation in ('purchase', 'commit') then -f.amount else 0 end as pays,
             case x.operation when 'purchase' then 0 when 'reserve' then f.amount else -f.hold_amount end as holds,
             -- A purchase or a hold is never into debt; a commit draws on its hold, the balance, then the debt limit, and a cost within
             -- the hold is always taken.
             case when x.operation in ('purchase', 'reserve') then f.amount
                  when x.operation = 'commit' and f.amount > f.hold_amount then f.amount - f.hold_amount - w.debt_limit_micros
             end as needs,
             case
               when x.tenant is null or coalesce(x.operation not in ('purchase', 'reserve', 'commit', 'release'), true)
                 or (x.operation = 'purchase' and x.call_id is not null) or (x.operation = 'release' and x.currency is not null)
                 or (x.recalled is not null and cardinality(p_operations) > 1) then wallet_malformed(x.n)
               when o.id is null then 'UnknownTenant'
               when w.tenant is null and x.operation <> 'release' then
                 case when f.currency is null and exists (select from unnest(v_wallets) y where y.tenant = x.tenant)
                      then 'CurrencyRequired' else 'NoWallet' end
               when x.operation <> 'purchase' and wallet_key_fault(x.call_id) <> '' then 'InvalidCall'
               when (x.operation = 'purchase' or x.key is not null) and wallet_key_fault(x.key) <> '' then 'InvalidKey'
               when x.operation <> 'release' and wallet_amount_fault(x.amount_micros) <> ''
                 and not coalesce(x.operation = 'commit' and x.amount_micros = 0, false) then 'InvalidAmount'
               when t.id is not null then
                 case when t.fingerprint = f.fingerprint then 'repeated' else 'IdempotencyMismatch' end
               when x.operation = 'commit' and c.currency <> w.currency then 'CurrencyMismatch'
               when (x.operation = 'reserve' and c.id is not null) or (x.operation = 'commit' and c.commit_transaction is not null)
                 then 'repeated_call'
               when x.operation = 'commit' and c.state = 'released' then 'AlreadyReleased'
               when x.operation = 'release' and (c.id is null or w.tenant is null) then 'UnknownReservation'
               when x.operation = 'release' and c.state = 'committed' then 'AlreadyCommitted'
               when x.operation = 'release' and c.state <> 'pending' then 'hold_free'  -- released or expired
               when x.operation not in ('purchase', 'reserve') then ''
               when x.operation = 'reserve' and coalesce(x.expires_at <= x.now, true) then 'InvalidExpiry'
               when o.deleted_at is not null then 'TenantDeleted'
               when o.suspended or w.suspended then 'Suspended'
               else ''
             end as verdict
        from unnest(v_operations) with ordinality x
        left join lateral (select y.id, y.deleted_at, y.suspended from tenants y where y.id = x.tenant offset 0) o on true
        left join lateral (select y.id, y.currency, y.state, y.amount_micros, y.expires_at, y.hold, y.commit_transaction
                             from credit_reservations y where y.tenant = x.tenant and y.call_id = x.call_id offset 0) c on true
       cross join lateral (select coalesce(x.key, case when x.operation <> 'purchase'
                                    then '~' || x.operation || '/' || md5(x.call_id) end) as key,
                                  coalesce(x.currency, case when x.operation in ('commit', 'release') then c.currency end) as currency,
                                  case c.state when 'pending' then c.amount_micros else 0 end as hold_amount,
                                  case when x.amount_micros between 0 and 1000000000000000 then x.amount_micros end as amount,
                                  case when x.fingerprint is not null then x.operation || ':' || x.fingerprint
                                       when x.operation = 'purchase' then wallet_fingerprint('purchase', null, x.currency, x.amount_micros::text)
                                       when x.operation = 'release' then wallet_fingerprint('release', null, x.call_id)
                                       else wallet_fingerprint(x.operation, null, x.currency, x.call_id, x.amount_micros::text)
                                  end as fingerprint) f
        left join lateral (select y.id, y.fingerprint from credit_transactions y
                            where y.tenant = x.tenant and y.idempotency_key = f.key offset 0) t on true
        left join unnest(v_wallets) w on w.tenant = x.tenant and (w.currency = f.currency or (f.currency is null and w.sole))
       order by x.tenant, x.n, x.ordinality
    loop
      if v_tenant is distinct from s.tenant then
        v_tenant := s.tenant; v_currency := s.currency; v_balance := s.balance; v_reserved := s.reserved; v_used := '{}'; v_waits := false;
      elsif v_waits or s.currency is distinct from v_currency or s.key = any (v_used) or s.call_id = any (v_used) then
        v_waits := true; v_later := v_later || s.place;
        continue;
      end if;
      v_effective := v_balance - v_reserved - s.float;
      if s.verdict = '' and coalesce(s.needs <= v_effective, true) then
        v_balance := v_balance + s.pays; v_reserved := v_reserved + s.holds;
        v_effects := v_effects || row (
          s.n, nextval('credit_transactions_id_seq'), v_tenant, v_currency, v_balance, v_reserved, s.float, s.debt_limit,
          case s.operation when 'release' then 0 else s.amount end,
          s.wallet_account, s.holds_account,
          case when s.reservation is null and s.operation <> 'purchase' then nextval('credit_reservations_id_seq') else s.reservation end,
          s.call_id, case s.operation when 'reserve' then 'pending' when 'release' then 'released'
                       when 'commit' then case s.state when 'expired' then 'expired' else 'committed' end end,
          case s.operation when 'reserve' then s.amount when 'commit' then coalesce(s.reserved_amount, 0)
                           when 'release' then s.reserved_amount end,
          case s.operation when 'commit' then s.amount end,
          case s.operation when 'reserve' then 0 when 'commit' then greatest(0, s.hold_amount - s.amount)
                           when 'release' then s.hold_amount end,
          case s.operation when 'reserve' then s.expires_at else s.reserved_until end,
          case when s.operation = 'commit' and s.hold_amount = 0 then 'direct' else s.operation end, s.key, s.fingerprint, s.pays, s.holds,
          'revenue', nextval('ledger_transfers_id_seq'), case when s.hold_amount > 0 then s.hold end,
          case s.operation when 'purchase' then 'purchase/' when 'reserve' then 'hold/' when 'commit' then 'call/' else 'release/' end
            || v_tenant || '/' || case s.operation when 'purchase' then s.key else s.call_id end,
          coalesce(s.description, ''), s.now, s.reservation is null and s.operation <> 'purchase')::wallet_effect;
        v_used := v_used || s.key || s.call_id;
      else
        r := wallet_not_done(row (s.verdict = 'hold_free', false, '', v_tenant, v_currency, v_balance, v_reserved, s.float, v_effective,
                                  s.debt_limit, 0, 0, null, null, null, null, null, null, null, null, null)::wallet_result,
                             s.verdict, s.operation, s.amount, case when s.verdict = '' then s.needs - v_effective end, s.seen,
                             s.reservation, s.may_recall);
        n := s.n;
        return next;
      end if;
    end loop;
    if cardinality(v_effects) > 0 then
      perform wallet_write(v_effects);
      return query select wallet_answer(e), e.n from unnest(v_effects) e;
    end if;
    exit when cardinality(v_later) = 0;
    v_operations := array(select v_operations[place] from unnest(v_later) place);
    v_wallets := array(
      select row (w.tenant, w.currency, w.balance_micros, w.reserved_micros, w.held_micros, w.debt_limit_micros,
                  w.suspended_reason is not null, w.wallet_account, w.holds_account, l.sole)::wallet_locked
        from unnest(v_wallets) l
       cross join lateral (select * from wallets y where y.tenant = l.tenant and y.currency = l.currency offset 0) w);
  end loop;
  if current_setting('tallygate.tenant', true) is distinct from v_caller then
    perform set_config('tallygate.tenant', coalesce(v_caller, ''), true);
  end if;
end $$;

-- What else writes with these, or reads answers that were given.
create or replace function wallet_done(r wallet_result, p_kind text, p_key text, p_fingerprint text, p_balance bigint, p_reserved bigint,
                            p_house text, p_resolves bigint, p_source text, p_description text, p_now timestamptz)
returns wallet_result language plpgsql as $$
declare
  e wallet_effect;
begin
  e := wallet_effect_of(r, p_kind, p_key, p_fingerprint, p_balance, p_reserved, p_house, p_resolves, p_source, p_description, p_now);
  perform wallet_write(array[e]);
  return wallet_answer(e);
end $$;

-- `r` is the wallet before it, with what the answer says besides.
create function wallet_effect_of(r wallet_result, p_kind text, p_key text, p_fingerprint text, p_balance bigint, p_reserved bigint,
    p_house text, p_resolves bigint, p_source text, p_description text, p_now timestamptz) returns wallet_effect language sql as $$
  select row (null, nextval('credit_transactions_id_seq'), r.tenant, r.currency, r.balance_micros + p_balance, r.reserved_micros + p_reserved,
              r.float_micros, r.debt_limit_micros, r.requested_micros, null, null, r.reservation_id, r.call_id, r.state, r.amount_micros,
              r.committed_micros, r.released_micros, r.expires_at, p_kind, p_key, p_fingerprint, p_balance, p_reserved, p_house,
              nextval('ledger_transfers_id_seq'), p_resolves, p_source, coalesce(p_description, ''), p_now, false)::wallet_effect
$$;

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
    e := wallet_effect_of(r, 'expire', '~expire/' || md5(c.call_id), 'expire', 0, -c.amount_micros, 'revenue', c.hold,
                          format('expire/%s/%s', c.tenant, c.call_id), '', p_now);
    r.reserved_micros := e.reserved_micros;
    v_effects := v_effects || e;
    tenant := c.tenant; currency := c.currency; call_id := c.call_id; amount_micros := c.amount_micros;
    return next;
  end loop;
  if cardinality(v_effects) > 0 then perform wallet_write(v_effects); end if;
end $$;

create or replace function close_dispute(p_tenant text, p_dispute_id text, p_won boolean, p_now timestamptz) returns wallet_result
language plpgsql as $$
declare
  d credit_transactions;
  r wallet_result;
  seen wallet_result;
  v_key text := '~dispute_closed/' || p_dispute_id;
  v_kind text := case when p_won then 'dispute_won' else 'dispute_lost' end;
begin
  select * into d from credit_transactions where tenant = p_tenant and idempotency_key = '~dispute/' || p_dispute_id and kind = 'dispute';
  r := wallet_begin(p_tenant, d.currency);
  if d.id is null then
    return case when r.reason = 'UnknownTenant' then r else wallet_refused(r, 'UnknownDispute') end;
  end if;
  seen := wallet_replay(r, v_key, v_kind);
  if seen.reason is not null then return seen; end if;
  r.requested_micros := -d.amount_micros;
  r := wallet_done(r, v_kind, v_key, v_kind, case when p_won then -d.amount_micros else 0 end, 0, 'disputes', null,
                   format('dispute_closed/%s/%s', p_tenant, p_dispute_id), '', p_now);
  if p_won then
    update wallets set suspended_reason = (
        select min(o.idempotency_key) from credit_transactions o
         where o.tenant = p_tenant and o.currency = d.currency and o.kind = 'dispute' and o.state = 'suspending'
           and not exists (select from credit_transactions x where x.tenant = o.tenant and x.kind = 'dispute_won'
                              and x.idempotency_key = replace(o.idempotency_key, '~dispute/', '~dispute_closed/')))
     where tenant = p_tenant and currency = d.currency and suspended_reason = d.idempotency_key;
  else
    insert into ledger_postings (transfer, account, amount)
      select t.transfer, ledger_account(null, k.kind, d.currency), k.amount
        from credit_transactions t, (values ('disputes', d.amount_micros), ('funding', -d.amount_micros)) k (kind, amount)
       where t.id = r.transaction_id;
  end if;
  insert into audit_log (at, tenant, actor, action, details)
    values (p_now, p_tenant, 'provider', 'wallet.' || v_kind, jsonb_build_object('dispute', p_dispute_id, 'transaction', r.transaction_id));
  return r;
end $$;

create or replace function provider_call_ended(p_tenant text, p_provider text, p_call_id text, p_currency text, p_cost_micros bigint,
    p_reason text, p_doc jsonb, p_started_at timestamptz, p_ended_at timestamptz, p_request_id text, p_now timestamptz,
    p_recalled jsonb default null, p_may_recall boolean default true) returns wallet_result language plpgsql as $$
declare
  v_key text := provider_call_key(p_provider, p_call_id);
  v_cost bigint := p_cost_micros;
  v_other boolean;
  r wallet_result := wallet_begin(p_tenant, p_currency, p_recalled);
  p provider_calls;
  c credit_reservations;
  t credit_transactions;
begin
  if r.reason = 'UnknownTenant' then return r; end if;
  select * into p from provider_calls where provider = p_provider and call_id = p_call_id for update;
  v_other := coalesce(p.doc ->> 'cost' <> p_doc ->> 'cost' or p.doc ->> 'currency' <> p_doc ->> 'currency', false);
  -- What was unpaid stays at the rate of its first report.
  if p.status = 'unpaid' and not v_other and p.currency = p_currency then v_cost := coalesce(p.cost_micros, v_cost); end if;
  select * into c from credit_reservations where tenant = p_tenant and call_id = v_key;
  select * into t from credit_transactions where id = coalesce(p.transaction_id, c.commit_transaction);
  if t.id is not null then
    r := wallet_repeated(t, null);
    if v_other or (p.transaction_id is null and c.committed_micros <> v_cost) then
      r := wallet_refused(r, 'IdempotencyMismatch', v_cost);
      r.duplicate := true;
    end if;
    if p.transaction_id is not null then return r; end if;
    v_cost := c.committed_micros;  -- charged through the API
  elsif v_cost is null then
    r := wallet_refused(r, p_reason);
  else
    r := commit_reserved_credits(p_tenant, null, null, p_currency, v_key, v_cost, '', p_now, null, p_may_recall);
    if r.reason = 'RecallFloat' then return r; end if;
    if not r.success and p.status = 'unpaid' and not v_other and p.doc ->> 'reason' = r.reason then return r; end if;
  end if;
  perform save_provider_call(row (p_provider, p_call_id, p_tenant, case when r.transaction_id is null then 'unpaid' else 'committed' end,
    p_started_at, coalesce(p_ended_at, p_now), coalesce(p_currency, r.currency), v_cost, false, r.transaction_id,
    p_doc || jsonb_build_object('reason', r.reason), p_now)::provider_calls);
  insert into audit_log (at, tenant, actor, action, reason, request_id, details)
    values (p_now, p_tenant, 'provider:' || p_provider, case when r.transaction_id is null then 'provider.unpaid' else 'provider.commit' end,
            r.reason, coalesce(p_request_id, ''),
            p_doc || jsonb_build_object('call', v_key, 'charged_currency', coalesce(p_currency, r.currency), 'charged_micros', v_cost,
                                        'transaction', r.transaction_id));
  return r;
end $$;

-- The kill switch takes rows too: they are cheaper to read than JSON.
create type status_question as (n integer, tenant text, currency text, call_id text);
create function status_checks(p_questions status_question[])
returns table (end_call boolean, reason text, currency text, balance_micros bigint, reserved_micros bigint, float_micros bigint,
               effective_micros bigint, debt_limit_micros bigint, call_hold_micros bigint, n integer)
language plpgsql stable security definer set search_path = public, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
begin
  return query
    select v.reason <> '', v.reason, f.currency, f.balance_micros, f.reserved_micros, f.float_micros,
           f.balance_micros - f.reserved_micros - f.float_micros, f.debt_limit_micros, h.micros, o.n
      from unnest(p_questions) o
     cross join lateral wallet_found(o.tenant, o.currency) f
      -- By its unique key alone: a condition on the state would invite the planner to walk all that are pending.
      left join credit_reservations c on c.tenant = o.tenant and c.call_id = o.call_id
     cross join lateral (select case when c.state = 'pending' and c.currency = f.currency then c.amount_micros else 0 end as micros) h
     cross join lateral (select case when f.reason <> '' then f.reason when f.blocked <> '' then f.blocked
                                     when f.balance_micros - f.reserved_micros + h.micros <= 0 then 'ZeroBalance' else '' end as reason) v;
end $$;

create or replace function status_check(p_tenant text, p_currency text, p_call_id text default null,
    out end_call boolean, out reason text, out currency text, out balance_micros bigint, out reserved_micros bigint,
    out float_micros bigint, out effective_micros bigint, out debt_limit_micros bigint, out call_hold_micros bigint)
language plpgsql stable as $$
begin
  select s.end_call, s.reason, s.currency, s.balance_micros, s.reserved_micros, s.float_micros, s.effective_micros, s.debt_limit_micros,
         s.call_hold_micros
    into end_call, reason, currency, balance_micros, reserved_micros, float_micros, effective_micros, debt_limit_micros, call_hold_micros
    from status_checks(array[row (0, (select t.id from tenants t where t.id = p_tenant), p_currency, p_call_id)::status_question]) s;
end $$;

-- As operators of before ask, while a deployment is upgraded: arrays of objects whose members are named as in the types.
create or replace function status_checks(p_ops jsonb)
returns table (end_call boolean, reason text, currency text, balance_micros bigint, reserved_micros bigint, float_micros bigint,
               effective_micros bigint, debt_limit_micros bigint, call_hold_micros bigint, n integer)
language sql stable as $$
  select * from status_checks(array(select o from jsonb_populate_recordset(null::status_question, p_ops) o))
$$;
drop function wallet_batch(jsonb), status_check_batch(jsonb);

-- References that no trigger checks.
alter function ledger_audit() rename to ledger_audit_sums;
create function ledger_audit() returns table (check_name text, tenant text, commodity text, expected numeric, actual numeric, detail text)
language sql stable as $$
  select * from ledger_audit_sums()
  union all
  select 'reference', x.tenant, null::text, 1::numeric, 0::numeric, x.detail
    from (select t.tenant, 'the tenant of transfer ' || t.id as detail from ledger_transfers t
           where t.tenant is not null and not exists (select from tenants o where o.id = t.tenant)
          union all
          select t.tenant, 'what transfer ' || t.id || ' resolves' from ledger_transfers t
           where t.resolves is not null and not exists (select from ledger_transfers h where h.id = t.resolves)
          union all
          select t.tenant, 'the wallet of transaction ' || t.id from credit_transactions t
           where not exists (select from wallets w where w.tenant = t.tenant and w.currency = t.currency)
          union all
          select t.tenant, 'the transfer of transaction ' || t.id from credit_transactions t
           where t.transfer is not null and not exists (select from ledger_transfers l where l.id = t.transfer)
          union all
          select c.tenant, 'the wallet of reservation ' || c.id from credit_reservations c
           where not exists (select from wallets w where w.tenant = c.tenant and w.currency = c.currency)
          union all
          select c.tenant, 'the hold of reservation ' || c.id from credit_reservations c
           where c.hold is not null and not exists (select from ledger_transfers l where l.id = c.hold)
          union all
          select c.tenant, 'a transaction of reservation ' || c.id from credit_reservations c
           where (c.reserve_transaction is not null and not exists (select from credit_transactions t where t.id = c.reserve_transaction))
              or (c.commit_transaction is not null and not exists (select from credit_transactions t where t.id = c.commit_transaction))) x
$$;

revoke execute on function wallet_write(wallet_effect[]), status_checks(status_question[]) from public;
grant execute on function wallet_write(wallet_effect[]) to tallygate_pipeline, tallygate_admin;
grant execute on function status_checks(status_question[]) to tallygate_api, tallygate_pipeline, tallygate_admin;
revoke insert on credit_transactions, credit_reservations from tallygate_pipeline;
