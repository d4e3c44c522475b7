-- Purchases, reservations of calls, and the kill switch. The contract is operator/api/SQL.md.

-- A purchase: never into debt.
create function check_balance_and_deduct_asset_cost(p_tenant text, p_key text, p_fingerprint text, p_currency text,
    p_amount_micros bigint, p_description text, p_now timestamptz, p_recalled jsonb default null,
    p_may_recall boolean default true) returns wallet_result language plpgsql as $$
declare
  r wallet_result := wallet_begin(p_tenant, p_currency, p_recalled);
  seen wallet_result;
  v_fault text := coalesce(nullif(wallet_key_fault(p_key), ''), wallet_amount_fault(p_amount_micros));
  v_fingerprint text := wallet_fingerprint('purchase', p_fingerprint, p_currency, p_amount_micros::text);
begin
  if r.reason <> '' then return r; end if;
  if v_fault <> '' then return wallet_refused(r, v_fault, p_amount_micros); end if;
  seen := wallet_replay(r, p_key, v_fingerprint);
  if seen.reason is not null then return seen; end if;
  v_fault := wallet_blocked(p_tenant, r.currency);
  if v_fault <> '' then return wallet_refused(r, v_fault, p_amount_micros); end if;
  if p_amount_micros > r.effective_micros then
    return wallet_short(r, 'InsufficientBalance', p_amount_micros, p_amount_micros - r.effective_micros, p_may_recall);
  end if;
  r.requested_micros := p_amount_micros;
  return wallet_done(r, 'purchase', p_key, v_fingerprint, -p_amount_micros, 0, 'revenue', null,
                     format('purchase/%s/%s', p_tenant, p_key), p_description, p_now);
end $$;

-- What a reservation answers of itself.
create function wallet_with_reservation(r wallet_result, c credit_reservations) returns wallet_result
language plpgsql immutable as $$
begin
  r.reservation_id := c.id; r.call_id := c.call_id; r.state := c.state; r.amount_micros := c.amount_micros;
  r.committed_micros := c.committed_micros; r.expires_at := c.expires_at;
  r.released_micros := case c.state when 'pending' then 0 when 'committed' then greatest(0, c.amount_micros - c.committed_micros)
                                    else c.amount_micros end;
  return r;
end $$;

-- A hold for a call, one per call id: never into debt.
create function reserve_call_credits(p_tenant text, p_key text, p_fingerprint text, p_currency text, p_call_id text,
    p_amount_micros bigint, p_expires_at timestamptz, p_description text, p_now timestamptz, p_recalled jsonb default null,
    p_may_recall boolean default true) returns wallet_result language plpgsql as $$
declare
  r wallet_result := wallet_begin(p_tenant, p_currency, p_recalled);
  seen wallet_result;
  c credit_reservations;
  v_key text := coalesce(p_key, '~reserve/' || md5(p_call_id));
  v_fingerprint text := wallet_fingerprint('reserve', p_fingerprint, p_currency, p_call_id, p_amount_micros::text);
  v_fault text := coalesce(nullif(wallet_key_fault(coalesce(p_key, 'none')), ''), wallet_amount_fault(p_amount_micros));
begin
  if r.reason <> '' then return r; end if;
  if wallet_key_fault(p_call_id) <> '' then return wallet_refused(r, 'InvalidCall', p_amount_micros); end if;
  if v_fault <> '' then return wallet_refused(r, v_fault, p_amount_micros); end if;
  seen := wallet_replay(r, v_key, v_fingerprint);
  if seen.reason is not null then return seen; end if;
  select * into c from credit_reservations where tenant = p_tenant and call_id = p_call_id;
  if found then  -- under another key
    if c.amount_micros <> p_amount_micros or c.currency <> r.currency then
      return wallet_refused(wallet_with_reservation(r, c), 'IdempotencyMismatch', p_amount_micros);
    end if;
    r := jsonb_populate_record(r, (select result from credit_transactions where id = c.reserve_transaction));
    r.duplicate := true; r.transaction_id := c.reserve_transaction; r.reservation_id := c.id;
    return r;
  end if;
  if p_expires_at is null or p_expires_at <= p_now then return wallet_refused(r, 'InvalidExpiry', p_amount_micros); end if;
  v_fault := wallet_blocked(p_tenant, r.currency);
  if v_fault <> '' then return wallet_refused(r, v_fault, p_amount_micros); end if;
  if p_amount_micros > r.effective_micros then
    return wallet_short(r, 'InsufficientBalance', p_amount_micros, p_amount_micros - r.effective_micros, p_may_recall);
  end if;
  r.requested_micros := p_amount_micros; r.call_id := p_call_id; r.state := 'pending'; r.amount_micros := p_amount_micros;
  r.released_micros := 0; r.expires_at := p_expires_at;
  r := wallet_done(r, 'reserve', v_key, v_fingerprint, 0, p_amount_micros, null, null,
                   format('hold/%s/%s', p_tenant, p_call_id), p_description, p_now);
  insert into credit_reservations (tenant, currency, call_id, state, amount_micros, expires_at, hold, reserve_transaction, created_at)
    values (p_tenant, r.currency, p_call_id, 'pending', p_amount_micros, p_expires_at,
            (select transfer from credit_transactions where id = r.transaction_id), r.transaction_id, p_now)
    returning id into r.reservation_id;
  return r;
end $$;

-- Charges a call: out of its hold, then the balance, then the debt limit. A cost within the hold is always taken. Without a
-- hold, or after its expiry, the call is billed directly; each call is charged at most once, however it comes.
create function commit_reserved_credits(p_tenant text, p_key text, p_fingerprint text, p_currency text, p_call_id text,
    p_cost_micros bigint, p_description text, p_now timestamptz, p_recalled jsonb default null,
    p_may_recall boolean default true) returns wallet_result language plpgsql as $$
declare
  c credit_reservations;
  r wallet_result;
  seen wallet_result;
  v_key text := coalesce(p_key, '~commit/' || md5(p_call_id));
  v_fingerprint text := wallet_fingerprint('commit', p_fingerprint, p_currency, p_call_id, p_cost_micros::text);
  v_hold bigint;
  v_room bigint;
begin
  -- A call that is known knows its wallet. Its currency never changes; the rest is read again under the lock.
  select * into c from credit_reservations where tenant = p_tenant and call_id = p_call_id;
  r := wallet_begin(p_tenant, coalesce(p_currency, c.currency), p_recalled);
  if r.reason <> '' then return r; end if;
  if wallet_key_fault(p_call_id) <> '' then return wallet_refused(r, 'InvalidCall', p_cost_micros); end if;
  if wallet_key_fault(coalesce(p_key, 'none')) <> '' then return wallet_refused(r, 'InvalidKey', p_cost_micros); end if;
  if p_cost_micros is distinct from 0 and wallet_amount_fault(p_cost_micros) <> '' then
    return wallet_refused(r, 'InvalidAmount', p_cost_micros);
  end if;
  seen := wallet_replay(r, v_key, v_fingerprint);
  if seen.reason is not null then return seen; end if;
  select * into c from credit_reservations where tenant = p_tenant and call_id = p_call_id for no key update;
  if c.id is not null then
    if c.currency <> r.currency then return wallet_refused(r, 'CurrencyMismatch', p_cost_micros); end if;
    if c.commit_transaction is not null then  -- under another key
      if c.committed_micros <> p_cost_micros then
        return wallet_refused(wallet_with_reservation(r, c), 'IdempotencyMismatch', p_cost_micros);
      end if;
      r := jsonb_populate_record(r, (select result from credit_transactions where id = c.commit_transaction));
      r.duplicate := true; r.transaction_id := c.commit_transaction; r.reservation_id := c.id;
      return r;
    end if;
    if c.state = 'released' then
      return wallet_refused(wallet_with_reservation(r, c), 'AlreadyReleased', p_cost_micros);
    end if;
  end if;
  v_hold := case when c.state = 'pending' then c.amount_micros else 0 end;
  v_room := v_hold + greatest(0, r.effective_micros + r.debt_limit_micros);
  if p_cost_micros > v_room then
    if c.id is not null then r := wallet_with_reservation(r, c); end if;
    return wallet_short(r, 'DebtLimitExceeded', p_cost_micros, p_cost_micros - (v_hold + r.effective_micros + r.debt_limit_micros), p_may_recall);
  end if;
  r.requested_micros := p_cost_micros; r.call_id := p_call_id; r.amount_micros := coalesce(c.amount_micros, 0);
  r.committed_micros := p_cost_micros; r.released_micros := greatest(0, v_hold - p_cost_micros);
  r.expires_at := c.expires_at; r.state := case c.state when 'expired' then 'expired' else 'committed' end;
  r := wallet_done(r, case c.state when 'pending' then 'commit' else 'direct' end, v_key, v_fingerprint, -p_cost_micros, -v_hold,
                   'revenue', case c.state when 'pending' then c.hold end, format('call/%s/%s', p_tenant, p_call_id),
                   p_description, p_now);
  if c.id is not null then
    update credit_reservations set state = r.state, committed_micros = p_cost_micros, commit_transaction = r.transaction_id,
           resolved_at = coalesce(resolved_at, p_now) where id = c.id;
    r.reservation_id := c.id;
  else
    insert into credit_reservations (tenant, currency, call_id, state, amount_micros, committed_micros, expires_at,
                                     commit_transaction, created_at, resolved_at)
      values (p_tenant, r.currency, p_call_id, 'committed', 0, p_cost_micros, p_now, r.transaction_id, p_now, p_now)
      returning id into r.reservation_id;
  end if;
  return r;
end $$;

create function release_reserved_credits(p_tenant text, p_key text, p_fingerprint text, p_call_id text, p_description text,
    p_now timestamptz) returns wallet_result language plpgsql as $$
declare
  c credit_reservations;
  r wallet_result;
  seen wallet_result;
  v_key text := coalesce(p_key, '~release/' || md5(p_call_id));
  v_fingerprint text := wallet_fingerprint('release', p_fingerprint, p_call_id);
begin
  if wallet_key_fault(p_call_id) <> '' or wallet_key_fault(coalesce(p_key, 'none')) <> '' then
    return wallet_refused(wallet_facts(p_tenant, null), case wallet_key_fault(p_call_id) when '' then 'InvalidKey' else 'InvalidCall' end);
  end if;
  select * into c from credit_reservations where tenant = p_tenant and call_id = p_call_id;
  r := wallet_begin(p_tenant, c.currency);
  seen := wallet_replay(r, v_key, v_fingerprint);
  if seen.reason is not null then return seen; end if;
  if r.reason = 'UnknownTenant' then return r; end if;
  if c.id is null then return wallet_refused(r, 'UnknownReservation'); end if;
  select * into c from credit_reservations where id = c.id for no key update;
  r := wallet_with_reservation(r, c);
  if c.state = 'committed' then return wallet_refused(r, 'AlreadyCommitted'); end if;
  if c.state <> 'pending' then  -- released or expired: the hold is free
    r.duplicate := true;
    return r;
  end if;
  r.state := 'released'; r.released_micros := c.amount_micros;
  r := wallet_done(r, 'release', v_key, v_fingerprint, 0, -c.amount_micros, null, c.hold,
                   format('release/%s/%s', p_tenant, p_call_id), p_description, p_now);
  update credit_reservations set state = 'released', resolved_at = p_now where id = c.id;
  return r;
end $$;

-- Frees the holds of abandoned calls, at most `p_limit` of them.
create function cleanup_expired_reservations(p_now timestamptz, p_limit integer)
returns table (tenant text, currency text, call_id text, amount_micros bigint) language plpgsql as $$
#variable_conflict use_column
declare
  c credit_reservations;
  r wallet_result;
  v_ids bigint[];
begin
  select array_agg(d.id) into v_ids from (select id from credit_reservations
    where state = 'pending' and expires_at <= p_now order by expires_at limit least(p_limit, 10000)) d;
  perform from wallets w where w.tenant in (select x.tenant from credit_reservations x where x.id = any (v_ids))
    order by w.tenant, w.currency for no key update;
  for c in select * from credit_reservations x where x.id = any (v_ids) and x.state = 'pending' and x.expires_at <= p_now
            order by x.tenant, x.call_id for no key update loop
    r := wallet_facts(c.tenant, c.currency);
    r := wallet_with_reservation(r, c);
    r.state := 'expired'; r.released_micros := c.amount_micros;
    r := wallet_done(r, 'expire', '~expire/' || md5(c.call_id), 'expire', 0, -c.amount_micros, null, c.hold,
                     format('expire/%s/%s', c.tenant, c.call_id), '', p_now);
    update credit_reservations x set state = 'expired', resolved_at = p_now where x.id = c.id;
    tenant := c.tenant; currency := c.currency; call_id := c.call_id; amount_micros := c.amount_micros;
    return next;
  end loop;
end $$;

-- The kill switch. A call that is under way keeps what it has on hold.
create function status_check(p_tenant text, p_currency text, p_call_id text default null,
    out end_call boolean, out reason text, out currency text, out balance_micros bigint, out reserved_micros bigint,
    out float_micros bigint, out effective_micros bigint, out debt_limit_micros bigint, out call_hold_micros bigint)
language plpgsql stable as $$
declare
  r wallet_result := wallet_facts(p_tenant, p_currency);
begin
  currency := r.currency; balance_micros := r.balance_micros; reserved_micros := r.reserved_micros;
  float_micros := r.float_micros; effective_micros := r.effective_micros; debt_limit_micros := r.debt_limit_micros;
  call_hold_micros := coalesce((select c.amount_micros from credit_reservations c where c.tenant = p_tenant
    and c.call_id = p_call_id and c.state = 'pending' and c.currency = r.currency), 0);
  reason := r.reason;
  if reason = '' then reason := wallet_blocked(p_tenant, r.currency); end if;
  if reason = '' and effective_micros + call_hold_micros <= 0 then reason := 'ZeroBalance'; end if;
  end_call := reason <> '';
end $$;

create function wallet_transactions(p_tenant text, p_currency text, p_before bigint, p_limit integer)
returns table (id bigint, currency text, kind text, idempotency_key text, amount_micros bigint, balance_after_micros bigint,
               call_id text, description text, created_at timestamptz) language sql stable as $$
  select t.id, t.currency, t.kind, t.idempotency_key, t.amount_micros, t.balance_after_micros, t.call_id, t.description, t.created_at
    from credit_transactions t
   where t.tenant = p_tenant and (p_currency is null or t.currency = p_currency) and (p_before is null or t.id < p_before)
   order by t.id desc limit least(greatest(p_limit, 0), 500)
$$;

create function wallet_reservations(p_tenant text, p_state text, p_before bigint, p_limit integer)
returns table (id bigint, currency text, call_id text, state text, amount_micros bigint, committed_micros bigint,
               expires_at timestamptz, created_at timestamptz, resolved_at timestamptz) language sql stable as $$
  select c.id, c.currency, c.call_id, c.state, c.amount_micros, c.committed_micros, c.expires_at, c.created_at, c.resolved_at
    from credit_reservations c
   where c.tenant = p_tenant and (p_state is null or c.state = p_state) and (p_before is null or c.id < p_before)
   order by c.id desc limit least(greatest(p_limit, 0), 500)
$$;

create function wallet_reservation(p_tenant text, p_call_id text)
returns table (id bigint, currency text, call_id text, state text, amount_micros bigint, committed_micros bigint,
               expires_at timestamptz, created_at timestamptz, resolved_at timestamptz) language sql stable as $$
  select c.id, c.currency, c.call_id, c.state, c.amount_micros, c.committed_micros, c.expires_at, c.created_at, c.resolved_at
    from credit_reservations c where c.tenant = p_tenant and c.call_id = p_call_id
$$;
