-- What outside providers report of calls and messages, in the ledger: once, in any order. A call is known here as
-- "<provider>:<call id>", so that two providers' ids never meet; its row in provider_calls says what became of it:
--   reserved    its hold was made
--   committed   charged, by transaction_id
--   unpaid      it took place and could not be charged (doc ->> 'reason'); tried again when it is reported again, and, where
--               money was missing, when there is some
--   released    a message that was not delivered
-- All lock the tenant's wallets first, so that events of one call never pass each other. As tallygate_api they see one tenant.

grant insert, update on provider_calls to tallygate_api;
create index provider_calls_unpaid on provider_calls (tenant) where status = 'unpaid';

create function provider_call_key(p_provider text, p_call_id text) returns text language sql immutable as $$
  select p_provider || ':' || p_call_id
$$;

-- Makes the row, or brings it up to date.
create function save_provider_call(p provider_calls) returns void language plpgsql as $$
begin
  insert into provider_calls select (p).* on conflict (provider, call_id) do nothing;
  if found then return; end if;
  update provider_calls x
     set status = p.status, started_at = coalesce(x.started_at, p.started_at), ended_at = coalesce(p.ended_at, x.ended_at),
         currency = coalesce(p.currency, x.currency), cost_micros = p.cost_micros, transaction_id = p.transaction_id,
         doc = x.doc || p.doc, seen_at = p.seen_at
   where x.provider = p.provider and x.call_id = p.call_id and x.tenant = p.tenant;
  if not found then
    raise exception 'call % of provider % belongs to another tenant', p.call_id, p.provider using errcode = 'unique_violation';
  end if;
end $$;

-- A hold for a call that is about to start. A call that has begun, or ended, before is a duplicate and gets none.
create function provider_call_starting(p_tenant text, p_provider text, p_call_id text, p_currency text, p_amount_micros bigint,
    p_expires_at timestamptz, p_started_at timestamptz, p_now timestamptz, p_recalled jsonb default null,
    p_may_recall boolean default true) returns wallet_result language plpgsql as $$
declare
  v_key text := provider_call_key(p_provider, p_call_id);
  r wallet_result := wallet_begin(p_tenant, p_currency, p_recalled);
  c credit_reservations;
begin
  if r.reason <> '' then return r; end if;
  select * into c from credit_reservations where tenant = p_tenant and call_id = v_key;
  if found then r := wallet_with_reservation(r, c); end if;
  if c.id is not null or exists (select from provider_calls where provider = p_provider and call_id = p_call_id) then
    r.duplicate := true;
  else
    r := reserve_call_credits(p_tenant, null, null, p_currency, v_key, p_amount_micros, p_expires_at, '', p_now, null, p_may_recall);
    if not r.success then return r; end if;
  end if;
  if not exists (select from provider_calls where provider = p_provider and call_id = p_call_id) then
    perform save_provider_call(row (p_provider, p_call_id, p_tenant, case c.state when 'committed' then 'committed' else 'reserved' end,
      p_started_at, null, r.currency, c.committed_micros, false, c.commit_transaction, '{}', p_now)::provider_calls);
  end if;
  return r;
end $$;

-- Charges a call that has ended. p_doc holds what the provider said (cost, currency) and how it was converted. A cost that could
-- not be put into the wallet's currency is null, and p_reason says why. Whatever the ledger refuses is kept as unpaid: the answer
-- then has the refusal. Reported again: the first answer, or IdempotencyMismatch where the provider now says another cost.
create function provider_call_ended(p_tenant text, p_provider text, p_call_id text, p_currency text, p_cost_micros bigint,
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
    r := jsonb_populate_record(r, t.result);
    r.success := true; r.duplicate := true; r.transaction_id := t.id;
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

-- Settles the hold of a message: delivered, its price is charged (null: what is on hold), else the hold is freed. A message that
-- was charged stays so. UnknownReservation: there is no hold, and no price.
create function provider_message_settled(p_tenant text, p_provider text, p_message_id text, p_currency text, p_delivered boolean,
    p_price_micros bigint, p_reason text, p_doc jsonb, p_request_id text, p_now timestamptz, p_recalled jsonb default null,
    p_may_recall boolean default true) returns wallet_result language plpgsql as $$
declare
  v_key text := provider_call_key(p_provider, p_message_id);
  r wallet_result := wallet_begin(p_tenant, p_currency, p_recalled);
  c credit_reservations;
begin
  if r.reason = 'UnknownTenant' then return r; end if;
  select * into c from credit_reservations where tenant = p_tenant and call_id = v_key;
  if p_delivered then
    if c.id is null and p_price_micros is null and p_reason = '' then return wallet_refused(r, 'UnknownReservation'); end if;
    return provider_call_ended(p_tenant, p_provider, p_message_id, coalesce(c.currency, p_currency),
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

-- Charges calls that could not be paid and now can be, at most `p_limit` of them: some providers report once only.
create function settle_unpaid_calls(p_now timestamptz, p_limit integer)
returns table (tenant text, provider text, call_id text, cost_micros bigint) language plpgsql as $$
#variable_conflict use_column
declare
  p provider_calls;
  r wallet_result;
begin
  -- In the order of the wallets' locks.
  for p in select x.* from provider_calls x join wallets w on w.tenant = x.tenant and w.currency = x.currency
             left join credit_reservations c on c.tenant = x.tenant and c.call_id = provider_call_key(x.provider, x.call_id)
                  and c.state = 'pending'
            where x.status = 'unpaid' and x.doc ->> 'reason' = 'DebtLimitExceeded'
              and x.cost_micros <= w.balance_micros - w.reserved_micros - w.held_micros + w.debt_limit_micros + coalesce(c.amount_micros, 0)
            order by x.tenant, x.seen_at limit least(p_limit, 10000) loop
    r := provider_call_ended(p.tenant, p.provider, p.call_id, p.currency, p.cost_micros, '', p.doc - 'reason', null, p.ended_at, '',
                             p_now, null, false);
    continue when not r.success;
    tenant := p.tenant; provider := p.provider; call_id := p.call_id; cost_micros := p.cost_micros;
    return next;
  end loop;
end $$;
revoke execute on function settle_unpaid_calls(timestamptz, integer) from public;
grant execute on function settle_unpaid_calls(timestamptz, integer) to tallygate_pipeline;
