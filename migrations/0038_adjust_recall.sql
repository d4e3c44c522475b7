-- A correction by hand reaches idle float as every operation does: else a wallet whose money is on loan to sidecars could not be
-- corrected.

drop function adjust_wallet(text, text, text, text, bigint, text, text, text, timestamptz);
-- By hand, either way, down to the debt limit; who and why is in the audit log.
create function adjust_wallet(p_tenant text, p_key text, p_fingerprint text, p_currency text, p_amount_micros bigint,
    p_reason text, p_actor text, p_request_id text, p_now timestamptz, p_recalled jsonb default null,
    p_may_recall boolean default false) returns wallet_result language plpgsql as $$
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
  r := wallet_begin(p_tenant, p_currency, p_recalled);
  if r.reason <> '' then return r; end if;
  if v_fault <> '' then return wallet_refused(r, v_fault, p_amount_micros); end if;
  seen := wallet_replay(r, p_key, v_fingerprint);
  if seen.reason is not null then return seen; end if;
  if p_amount_micros > 0 and r.balance_micros > 1000000000000000000 - p_amount_micros then
    return wallet_refused(r, 'BalanceLimit', p_amount_micros);
  end if;
  v_room := r.effective_micros + r.debt_limit_micros;
  if p_amount_micros < 0 and v_room + p_amount_micros < 0 then
    return wallet_short(r, 'DebtLimitExceeded', p_amount_micros, -p_amount_micros - v_room, p_may_recall);
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
revoke execute on function adjust_wallet(text, text, text, text, bigint, text, text, text, timestamptz, jsonb, boolean) from public;
grant execute on function adjust_wallet(text, text, text, text, bigint, text, text, text, timestamptz, jsonb, boolean)
  to tallygate_pipeline, tallygate_admin;
