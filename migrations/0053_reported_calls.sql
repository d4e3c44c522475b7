-- What a provider reports outranks what was done to its call's id before: by a tenant's own token, while nobody closed the ids of
-- providers' calls to it, or by an operator's hand. So a report is charged whatever became of the hold, and of what was committed
-- already only the difference; a call that is about to start gets a hold that is large enough, or none starts.

-- A key or source of the ledger's own, of a call id of any length.
create function call_digest(p_key text) returns text language sql immutable as $$
  select encode(sha256(convert_to(p_key, 'UTF8')), 'hex')
$$;

-- A reservation may get another hold: one that is there, and its tenant's.
create function check_hold() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
begin
  if not exists (select from ledger_transfers t where t.id = new.hold and t.tenant = new.tenant and t.kind = 'hold') then
    perform refuse_reference(tg_table_name, 'hold', new.hold::text);
  end if;
  return new;
end $$;
create or replace trigger credit_reservations_keep_their_keys before update of tenant, currency, call_id, reserve_transaction
  on credit_reservations for each statement execute function refuse_change();
create trigger credit_reservations_holds before update of hold on credit_reservations for each row execute function check_hold();
alter table credit_reservations enable always trigger credit_reservations_keep_their_keys;
alter table credit_reservations enable always trigger credit_reservations_holds;

-- Makes a hold that is too small as large as asked for, or makes one that has expired anew, once for a call. The wallet is locked.
create function raise_call_hold(p_tenant text, p_currency text, p_key text, p_amount_micros bigint, p_expires_at timestamptz,
    p_now timestamptz, p_may_recall boolean) returns wallet_result language plpgsql
security definer set search_path = public, pg_temp as $$
declare
  r wallet_result := wallet_facts(p_tenant, p_currency);
  c credit_reservations;
  v_blocked text := (select blocked from wallet_found(p_tenant, p_currency));
  v_more bigint;
begin
  perform require_own_tenant(p_tenant);
  select * into strict c from credit_reservations where tenant = p_tenant and call_id = p_key and currency = p_currency
                          and state in ('pending', 'expired') and commit_transaction is null;
  v_more := p_amount_micros - case c.state when 'pending' then c.amount_micros else 0 end;
  if v_blocked <> '' then return wallet_refused(r, v_blocked, p_amount_micros); end if;
  if wallet_amount_fault(p_amount_micros) <> '' or v_more <= 0 then return wallet_refused(r, 'InvalidAmount', p_amount_micros); end if;
  if v_more > r.effective_micros then
    return wallet_short(r, 'InsufficientBalance', p_amount_micros, v_more - r.effective_micros, p_may_recall);
  end if;
  r.requested_micros := p_amount_micros; r.call_id := p_key; r.state := 'pending'; r.amount_micros := p_amount_micros;
  r.expires_at := greatest(c.expires_at, p_expires_at);
  r := wallet_done(r, 'reserve', '~raise/' || call_digest(p_key), 'raise', 0, v_more, 'revenue',
                   case c.state when 'pending' then c.hold end, format('raise/%s/%s', p_tenant, p_key), '', p_now);
  update credit_reservations
     set state = 'pending', amount_micros = p_amount_micros, expires_at = r.expires_at, resolved_at = null,
         hold = (select transfer from credit_transactions where id = r.transaction_id)
   where id = c.id;
  r.reservation_id := c.id;
  return r;
end $$;

-- Charges a call what its cost is above what was taken for it, where `commit_reserved_credits` cannot: its hold was released, or it was
-- committed, or the hold is in another currency. Draws on the balance, then the debt limit; once for a call. The wallet is locked.
create function charge_call_rest(p_tenant text, p_currency text, p_key text, p_cost_micros bigint, p_now timestamptz,
    p_may_recall boolean) returns wallet_result language plpgsql security definer set search_path = public, pg_temp as $$
declare
  r wallet_result := wallet_facts(p_tenant, p_currency);
  c credit_reservations;
  v_owed bigint;
begin
  perform require_own_tenant(p_tenant);
  if r.reason <> '' or (p_cost_micros <> 0 and wallet_amount_fault(p_cost_micros) <> '') then
    return wallet_refused(r, coalesce(nullif(r.reason, ''), 'InvalidAmount'), p_cost_micros);
  end if;
  select * into c from credit_reservations where tenant = p_tenant and call_id = p_key and currency = p_currency
                   and (state = 'released' or commit_transaction is not null);
  v_owed := p_cost_micros - coalesce(c.committed_micros, 0);
  if v_owed < 0 then return wallet_refused(r, 'InvalidAmount', p_cost_micros); end if;  -- this gives nothing back
  if v_owed > r.effective_micros + r.debt_limit_micros then
    return wallet_short(r, 'DebtLimitExceeded', p_cost_micros, v_owed - r.effective_micros - r.debt_limit_micros, p_may_recall);
  end if;
  r.requested_micros := p_cost_micros; r.reservation_id := c.id; r.call_id := p_key; r.state := coalesce(c.state, 'committed');
  r.amount_micros := coalesce(c.amount_micros, 0); r.committed_micros := p_cost_micros; r.released_micros := 0;
  -- Once for a call and what was taken for it before: a price may come after a hold that was taken.
  return wallet_done(r, 'direct', format('~charge/%s/%s', call_digest(p_key), coalesce(c.committed_micros, 0)), 'charge', -v_owed, 0,
                     'revenue', null, format('charge/%s/%s/%s', p_tenant, p_key, coalesce(c.committed_micros, 0)), '', p_now);
end $$;

revoke execute on function raise_call_hold(text, text, text, bigint, timestamptz, timestamptz, boolean),
  charge_call_rest(text, text, text, bigint, timestamptz, boolean) from public;
grant execute on function raise_call_hold(text, text, text, bigint, timestamptz, timestamptz, boolean),
  charge_call_rest(text, text, text, bigint, timestamptz, boolean) to tallygate_api, tallygate_pipeline;

-- A hold for a call that is about to start. What others reserved for it counts as far as it goes; an id that was used up starts no call.
create or replace function provider_call_starting(p_tenant text, p_provider text, p_call_id text, p_currency text, p_amount_micros bigint,
    p_expires_at timestamptz, p_started_at timestamptz, p_now timestamptz, p_recalled jsonb default null,
    p_may_recall boolean default true) returns wallet_result language plpgsql as $$
declare
  v_key text := provider_call_key(p_provider, p_call_id);
  r wallet_result := wallet_begin(p_tenant, p_currency, p_recalled);
  c credit_reservations;
  v_known boolean := exists (select from provider_calls where provider = p_provider and call_id = p_call_id);
begin
  if r.reason <> '' then return r; end if;
  select * into c from credit_reservations where tenant = p_tenant and call_id = v_key;
  if v_known or (c.state = 'pending' and c.currency = r.currency and c.amount_micros >= p_amount_micros) then
    if c.id is not null then r := wallet_with_reservation(r, c); end if;
    r.duplicate := true;
  elsif c.id is null then
    r := reserve_call_credits(p_tenant, null, null, p_currency, v_key, p_amount_micros, p_expires_at, '', p_now, null, p_may_recall);
  elsif c.commit_transaction is not null or c.state = 'released' or c.currency <> r.currency then
    return wallet_refused(wallet_with_reservation(r, c), case when c.commit_transaction is not null then 'AlreadyCommitted'
                            when c.state = 'released' then 'AlreadyReleased' else 'CurrencyMismatch' end, p_amount_micros);
  else
    r := raise_call_hold(p_tenant, r.currency, v_key, p_amount_micros, p_expires_at, p_now, p_may_recall);
  end if;
  if r.success and not v_known then
    perform save_provider_call(row (p_provider, p_call_id, p_tenant, 'reserved', p_started_at, null, r.currency, null, false, null, '{}',
                                    p_now)::provider_calls);
  end if;
  return r;
end $$;

-- Charges a call that has ended. p_doc holds what the provider said (cost, currency) and how it was converted. A cost that could
-- not be put into the wallet's currency is null, and p_reason says why. Whatever the ledger refuses is kept as unpaid: the answer
-- then has the refusal. Reported again: the first answer, or IdempotencyMismatch where the provider now says another cost. The first
-- report that names a cost counts; what was taken before it (committed by hand, or a message's hold) is part of what it costs.
create or replace function provider_call_ended(p_tenant text, p_provider text, p_call_id text, p_currency text, p_cost_micros bigint,
    p_reason text, p_doc jsonb, p_started_at timestamptz, p_ended_at timestamptz, p_request_id text, p_now timestamptz,
    p_recalled jsonb default null, p_may_recall boolean default true) returns wallet_result language plpgsql as $$
declare
  v_key text := provider_call_key(p_provider, p_call_id);
  v_cost bigint := p_cost_micros;
  v_other boolean;
  v_elsewhere boolean;                              -- the reservation is in another currency than the charge
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
  v_elsewhere := coalesce(c.currency <> p_currency, false);
  if p.transaction_id is not null and p.doc ? 'cost'
     or c.commit_transaction is not null and (v_cost is null or not v_elsewhere and c.committed_micros >= v_cost) then
    select * into t from credit_transactions where id = coalesce(p.transaction_id, c.commit_transaction);
    r := wallet_repeated(t, null);
    if v_other or (p.transaction_id is null and c.committed_micros <> v_cost) then
      r := wallet_refused(r, 'IdempotencyMismatch', v_cost);
      r.duplicate := true;
    end if;
    if p.transaction_id is not null then return r; end if;
    v_cost := c.committed_micros;  -- charged through the API
  else
    if v_cost is null then
      r := wallet_refused(r, p_reason);
    elsif v_elsewhere and c.committed_micros > 0 then
      r := wallet_refused(r, 'CurrencyMismatch', v_cost);
    elsif v_elsewhere or c.commit_transaction is not null or c.state = 'released' then
      r := charge_call_rest(p_tenant, p_currency, v_key, v_cost, p_now, p_may_recall);
    else
      r := commit_reserved_credits(p_tenant, null, null, p_currency, v_key, v_cost, '', p_now, null, p_may_recall);
    end if;
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

-- Settles the hold of a message: delivered, its price is charged (null: what is, or was, on hold), else the hold is freed. A message
-- that was charged stays so. UnknownReservation: there is no hold, and no price.
create or replace function provider_message_settled(p_tenant text, p_provider text, p_message_id text, p_currency text,
    p_delivered boolean, p_price_micros bigint, p_reason text, p_doc jsonb, p_request_id text, p_now timestamptz,
    p_recalled jsonb default null, p_may_recall boolean default true) returns wallet_result language plpgsql as $$
declare
  v_key text := provider_call_key(p_provider, p_message_id);
  r wallet_result := wallet_begin(p_tenant, p_currency, p_recalled);
  c credit_reservations;
begin
  if r.reason = 'UnknownTenant' then return r; end if;
  select * into c from credit_reservations where tenant = p_tenant and call_id = v_key;
  if p_delivered then
    if c.id is null and p_price_micros is null and p_reason = '' then return wallet_refused(r, 'UnknownReservation'); end if;
    return provider_call_ended(p_tenant, p_provider, p_message_id,
      case when p_price_micros is null and p_reason = '' then c.currency else p_currency end,
      case p_reason when '' then coalesce(p_price_micros, c.amount_micros) end, p_reason, p_doc, null, null, p_request_id, p_now,
      null, p_may_recall);
  end if;
  r := release_reserved_credits(p_tenant, null, null, v_key, '', p_now);
  if r.reason = 'AlreadyCommitted' then
    r.success := true; r.duplicate := true; r.reason := '';
  elsif r.success and not r.duplicate then
    perform save_provider_call(row (p_provider, p_message_id, p_tenant, 'released', null, p_now, r.currency, 0, false, null, p_doc,
      p_now)::provider_calls);
  end if;
  return r;
end $$;

-- Charges calls that could not be paid and now can be, at most `p_limit` of them: some providers report once only. A released hold
-- stood in the way of earlier versions.
create or replace function settle_unpaid_calls(p_now timestamptz, p_limit integer)
returns table (tenant text, provider text, call_id text, cost_micros bigint) language plpgsql as $$
#variable_conflict use_column
declare
  p provider_calls;
  r wallet_result;
begin
  -- In the order of the wallets' locks.
  for p in select x.* from provider_calls x join wallets w on w.tenant = x.tenant and w.currency = x.currency
             left join credit_reservations c on c.tenant = x.tenant and c.call_id = provider_call_key(x.provider, x.call_id)
                  and c.currency = x.currency
            where x.status = 'unpaid' and x.doc ->> 'reason' in ('DebtLimitExceeded', 'AlreadyReleased')
              and x.cost_micros <= w.balance_micros - w.reserved_micros - w.held_micros + w.debt_limit_micros
                                   + coalesce(c.committed_micros, 0) + case c.state when 'pending' then c.amount_micros else 0 end
            order by x.tenant, x.seen_at limit least(p_limit, 10000) loop
    r := provider_call_ended(p.tenant, p.provider, p.call_id, p.currency, p.cost_micros, '', p.doc - 'reason', null, p.ended_at, '',
                             p_now, null, false);
    continue when not r.success;
    tenant := p.tenant; provider := p.provider; call_id := p.call_id; cost_micros := p.cost_micros;
    return next;
  end loop;
end $$;

-- Frees the holds of abandoned calls, at most `p_limit` of them. A call may have had two: each is freed by its own name.
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
    e := wallet_effect_of(r, 'expire', '~expire/' || c.hold, 'expire', 0, -c.amount_micros, 'revenue', c.hold, 'expire/' || c.hold, '',
                          p_now);
    r.reserved_micros := e.reserved_micros;
    v_effects := v_effects || e;
    tenant := c.tenant; currency := c.currency; call_id := c.call_id; amount_micros := c.amount_micros;
    return next;
  end loop;
  if cardinality(v_effects) > 0 then perform wallet_write(v_effects); end if;
end $$;
