-- Money into wallets and out of them again: top-ups, adjustments, refunds, disputes.

-- Makes the wallet where there is none, with its currency's debt limit.
create function wallet_open(p_tenant text, p_currency text) returns void language plpgsql as $$
begin
  if p_currency is null or p_currency !~ '^[A-Z]{3}$' or exists (select from wallets where tenant = p_tenant and currency = p_currency)
     or not exists (select from tenants where id = p_tenant) then return; end if;
  perform pg_advisory_xact_lock(hashtextextended('tallygate wallet ' || p_tenant, 0));
  insert into wallets (tenant, currency, debt_limit_micros) values (p_tenant, p_currency, default_debt_limit_micros(p_currency))
    on conflict do nothing;
end $$;

create function add_wallet_credits(p_tenant text, p_key text, p_fingerprint text, p_currency text, p_amount_micros bigint,
    p_description text, p_now timestamptz) returns wallet_result language plpgsql as $$
declare
  r wallet_result;
  seen wallet_result;
  v_fault text := coalesce(nullif(wallet_key_fault(p_key), ''), wallet_amount_fault(p_amount_micros));
  v_fingerprint text := wallet_fingerprint('credit', p_fingerprint, p_currency, p_amount_micros::text);
begin
  if v_fault = '' then perform wallet_open(p_tenant, p_currency); end if;
  r := wallet_begin(p_tenant, p_currency);
  if r.reason <> '' then return r; end if;
  if v_fault <> '' then return wallet_refused(r, v_fault, p_amount_micros); end if;
  seen := wallet_replay(r, p_key, v_fingerprint);
  if seen.reason is not null then return seen; end if;
  if r.balance_micros > 1000000000000000000 - p_amount_micros then return wallet_refused(r, 'BalanceLimit', p_amount_micros); end if;
  r.requested_micros := p_amount_micros;
  return wallet_done(r, 'credit', p_key, v_fingerprint, p_amount_micros, 0, 'funding', null,
                     format('credit/%s/%s', p_tenant, p_key), p_description, p_now);
end $$;

-- By hand, either way, down to the debt limit; who and why is in the audit log.
create function adjust_wallet(p_tenant text, p_key text, p_fingerprint text, p_currency text, p_amount_micros bigint,
    p_reason text, p_actor text, p_request_id text, p_now timestamptz) returns wallet_result language plpgsql as $$
declare
  r wallet_result;
  seen wallet_result;
  v_fault text := coalesce(nullif(wallet_key_fault(p_key), ''), wallet_amount_fault(nullif(p_amount_micros, -9223372036854775808)), '');
  v_fingerprint text := wallet_fingerprint('adjustment', p_fingerprint, p_currency, p_amount_micros::text, p_reason);
  v_room bigint;
begin
  if p_amount_micros between -1000000000000000 and -1 then v_fault := wallet_key_fault(p_key); end if;
  if coalesce(btrim(p_reason), '') = '' or coalesce(btrim(p_actor), '') = '' then v_fault := 'ReasonRequired'; end if;
  if v_fault = '' and p_amount_micros > 0 then perform wallet_open(p_tenant, p_currency); end if;
  r := wallet_begin(p_tenant, p_currency);
  if r.reason <> '' then return r; end if;
  if v_fault <> '' then return wallet_refused(r, v_fault, p_amount_micros); end if;
  seen := wallet_replay(r, p_key, v_fingerprint);
  if seen.reason is not null then return seen; end if;
  if p_amount_micros > 0 and r.balance_micros > 1000000000000000000 - p_amount_micros then
    return wallet_refused(r, 'BalanceLimit', p_amount_micros);
  end if;
  v_room := r.effective_micros + r.debt_limit_micros;
  if p_amount_micros < 0 and v_room + p_amount_micros < 0 then
    return wallet_refused(r, 'DebtLimitExceeded', p_amount_micros, -p_amount_micros - v_room);
  end if;
  r.requested_micros := p_amount_micros;
  r := wallet_done(r, 'adjustment', p_key, v_fingerprint, p_amount_micros, 0, 'adjustments', null,
                   format('adjustment/%s/%s', p_tenant, p_key), p_reason, p_now);
  insert into audit_log (at, tenant, actor, action, reason, request_id, details)
    values (p_now, p_tenant, p_actor, 'wallet.adjust', p_reason, coalesce(p_request_id, ''),
            jsonb_build_object('currency', r.currency, 'amount_micros', p_amount_micros, 'transaction', r.transaction_id,
                               'balance_micros', r.balance_micros));
  return r;
end $$;

-- What has left our account already: posted once by its own id, whatever the balance.
create function wallet_taken_back(p_tenant text, p_kind text, p_id text, p_currency text, p_amount_micros bigint,
    p_state text, p_description text, p_now timestamptz) returns wallet_result language plpgsql as $$
declare
  r wallet_result := wallet_begin(p_tenant, p_currency);
  seen wallet_result;
  v_key text := '~' || p_kind || '/' || p_id;
  v_fault text := coalesce(nullif(wallet_key_fault(p_id), ''), wallet_amount_fault(p_amount_micros));
  v_fingerprint text := wallet_fingerprint(p_kind, null, p_currency, p_amount_micros::text);
begin
  if r.reason <> '' then return r; end if;
  if v_fault <> '' then return wallet_refused(r, v_fault, p_amount_micros); end if;
  seen := wallet_replay(r, v_key, v_fingerprint);
  if seen.reason is not null then return seen; end if;
  if r.balance_micros < -1000000000000000000 + p_amount_micros then return wallet_refused(r, 'BalanceLimit', p_amount_micros); end if;
  r.requested_micros := p_amount_micros; r.state := p_state;
  return wallet_done(r, p_kind, v_key, v_fingerprint, -p_amount_micros, 0,
                     case p_kind when 'refund' then 'funding' else 'disputes' end, null,
                     format('%s/%s/%s', p_kind, p_tenant, p_id), p_description, p_now);
end $$;

create function post_refund(p_tenant text, p_refund_id text, p_currency text, p_amount_micros bigint, p_description text,
    p_now timestamptz) returns wallet_result language sql as $$
  select * from wallet_taken_back(p_tenant, 'refund', p_refund_id, p_currency, p_amount_micros, null, p_description, p_now)
$$;

create function post_dispute(p_tenant text, p_dispute_id text, p_currency text, p_amount_micros bigint, p_suspend boolean,
    p_description text, p_now timestamptz) returns wallet_result language plpgsql as $$
declare
  r wallet_result;
begin
  r := wallet_taken_back(p_tenant, 'dispute', p_dispute_id, p_currency, p_amount_micros,
                         case when p_suspend then 'suspending' end, p_description, p_now);
  if not r.success or r.duplicate then return r; end if;
  if p_suspend then
    update wallets set suspended_reason = coalesce(suspended_reason, '~dispute/' || p_dispute_id)
     where tenant = p_tenant and currency = r.currency;
  end if;
  insert into audit_log (at, tenant, actor, action, reason, details)
    values (p_now, p_tenant, 'provider', 'wallet.dispute', p_description, jsonb_build_object('dispute', p_dispute_id,
            'currency', r.currency, 'amount_micros', p_amount_micros, 'suspends', p_suspend));
  return r;
end $$;

-- Won: the money is back, and the wallet is as the disputes still open leave it. Lost: the money is gone for good, and a
-- suspension stays until somebody lifts it (resume_wallet).
create function close_dispute(p_tenant text, p_dispute_id text, p_won boolean, p_now timestamptz) returns wallet_result
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
         where o.tenant = p_tenant and o.currency = d.currency and o.kind = 'dispute' and o.result ->> 'state' = 'suspending'
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

create function resume_wallet(p_tenant text, p_currency text, p_reason text, p_actor text, p_now timestamptz)
returns wallet_result language plpgsql as $$
declare
  r wallet_result := wallet_begin(p_tenant, p_currency);
begin
  if r.reason <> '' then return r; end if;
  if coalesce(btrim(p_reason), '') = '' or coalesce(btrim(p_actor), '') = '' then return wallet_refused(r, 'ReasonRequired'); end if;
  update wallets set suspended_reason = null where tenant = p_tenant and currency = r.currency and suspended_reason is not null;
  r.duplicate := not found;
  if found then
    insert into audit_log (at, tenant, actor, action, reason, details)
      values (p_now, p_tenant, p_actor, 'wallet.resume', p_reason, jsonb_build_object('currency', r.currency));
  end if;
  return r;
end $$;
