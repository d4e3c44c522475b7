-- The key of what is done to a call without a key of its own was made of its id by MD5: two ids that were chosen so had one
-- key, and what was done to the one counted as done to the other. It is SHA-256 now, and what was done before this migration
-- is found under the key of then: it is repeated to nobody.

create function call_key(p_tenant text, p_operation text, p_call_id text) returns text language sql stable as $$
  select coalesce((select t.idempotency_key from credit_transactions t
                    where t.tenant = p_tenant and t.idempotency_key = '~' || p_operation || '/' || md5(p_call_id)
                      and t.call_id = p_call_id),
                  '~' || p_operation || '/' || encode(sha256(convert_to(p_call_id, 'UTF8')), 'hex'))
$$;

-- wallet_operate as it is by now, with that key: later migrations change other words of it, and may have been applied before.
do $$
declare
  v_old text := '''~'' || x.operation || ''/'' || md5(x.call_id)';
  v_text text := pg_get_functiondef('wallet_operate(wallet_operation[])'::regprocedure);
begin
  if strpos(v_text, v_old) = 0 then raise exception 'wallet_operate is not as this migration knows it'; end if;
  execute replace(v_text, v_old, 'call_key(x.tenant, x.operation, x.call_id)');
end $$;
