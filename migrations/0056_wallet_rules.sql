-- Calls and wallets as those who use them may expect:
--   a key is answered before anything else is asked of its request, so that a second wallet changes no answer that was given;
--   a call whose hold is gone gets no answer that says it has one: AlreadyReleased (released, or expired) or AlreadyCommitted, since
--     one call is charged once, and whoever means another call has another id for it;
--   a wallet is opened in a currency that the tenant's plan is priced in, and one that is empty can be closed;
--   a status check looks at the wallet that the call's hold is in;
--   two tenants of one provider may have one call id.
--   usage whose moment is written in another way is the same usage.
-- Functions are changed where they must be and else stay as they are: what is not found as expected stops the migration.

create function reword(p_function text, p_old text, p_new text) returns void language plpgsql as $$
declare
  f record;
  v_found boolean := false;
begin
  for f in select pg_get_functiondef(p.oid) as text from pg_proc p
            where p.proname = p_function and p.pronamespace = 'public'::regnamespace and strpos(p.prosrc, p_old) > 0 loop
    execute replace(f.text, p_old, p_new);
    v_found := true;
  end loop;
  if not v_found then raise exception 'function % is not as this migration knows it', p_function; end if;
end $$;

-- The key first. One that the ledger made of a call's id says nothing of a hold that is gone by now.
select reword('wallet_operate', $o$               when w.tenant is null and x.operation <> 'release' then$o$,
$n$               when t.id is not null and not (x.key is null and x.operation = 'reserve' and c.state <> 'pending') then
                 case when t.fingerprint = f.fingerprint then 'repeated' else 'IdempotencyMismatch' end
               when w.tenant is null and x.operation <> 'release' then$n$);
select reword('wallet_operate', $o$               when t.id is not null then
                 case when t.fingerprint = f.fingerprint then 'repeated' else 'IdempotencyMismatch' end
$o$, '');
select reword('wallet_operate', $o$               when (x.operation = 'reserve' and c.id is not null) or$o$,
$n$               when x.operation = 'reserve' and c.commit_transaction is not null then 'AlreadyCommitted'
               when x.operation = 'reserve' and c.id is not null and (c.state <> 'pending' or c.expires_at <= x.now) then 'AlreadyReleased'
               when (x.operation = 'reserve' and c.id is not null) or$n$);
-- One that expired and was charged later, too.
select reword('wallet_operate', $o$x.operation = 'release' and c.state = 'committed' then$o$,
              $n$x.operation = 'release' and c.commit_transaction is not null then$n$);
-- A wallet that is closed is not there.
select reword('wallet_operate', $o$(array(select x.tenant from unnest(v_operations) x))
             order by$o$, $n$(array(select x.tenant from unnest(v_operations) x)) and w.closed_at is null
             order by$n$);

alter table wallets add column closed_at timestamptz; -- by hand, when it was empty; whatever moves money opens it again

select reword('wallet_found', $o$(p_currency is null or w.currency = p_currency)$o$,
              $n$w.closed_at is null and (p_currency is null or w.currency = p_currency)$n$);

create function reopen_wallet() returns trigger language plpgsql as $$
begin
  new.closed_at := null;
  return new;
end $$;
create trigger wallets_reopen before update of balance_micros, reserved_micros, held_micros on wallets for each row
  when (old.closed_at is not null and (new.balance_micros, new.reserved_micros, new.held_micros) <> (0, 0, 0))
  execute function reopen_wallet();
alter table wallets enable always trigger wallets_reopen;

-- Whether a wallet may be opened by hand: the tenant's meters are priced in this currency. A manifest's wallet is there already, and
-- money that was paid opens one whatever the plan says by now.
create function currency_is_declared(p_tenant text, p_currency text) returns boolean language sql stable as $$
  select exists (select from tenant_meters m where m.tenant = p_tenant and m.currency = p_currency)
      or not exists (select from tenant_meters m where m.tenant = p_tenant)
$$;

create or replace function wallet_open(p_tenant text, p_currency text) returns void language plpgsql as $$
begin
  if p_currency is null or p_currency !~ '^[A-Z]{3}$' or not exists (select from tenants where id = p_tenant)
     or exists (select from wallets where tenant = p_tenant and currency = p_currency and closed_at is null) then return; end if;
  perform pg_advisory_xact_lock(hashtextextended('tallygate wallet ' || p_tenant, 0));
  insert into wallets (tenant, currency, debt_limit_micros) values (p_tenant, p_currency, default_debt_limit_micros(p_currency))
    on conflict do nothing;
  if found then return; end if;
  perform lock_wallets(p_tenant);                   -- all of them, in their order
  update wallets set closed_at = null where tenant = p_tenant and currency = p_currency and closed_at is not null;
end $$;

select reword('add_wallet_credits', $o$if v_fault = '' then perform wallet_open$o$,
              $n$if v_fault = '' and currency_is_declared(p_tenant, p_currency) then perform wallet_open$n$);
select reword('adjust_wallet', $o$if v_fault = '' and p_amount_micros > 0 then perform wallet_open$o$,
              $n$if v_fault = '' and p_amount_micros > 0 and currency_is_declared(p_tenant, p_currency) then perform wallet_open$n$);
select reword(f, $o$  if r.reason <> '' then return r; end if;
  if v_fault <> '' then$o$, $n$  if r.reason = 'UnknownTenant' then return r; end if;
  seen := wallet_replay(r, p_key, v_fingerprint);
  if seen.reason is not null then return seen; end if;
  if r.reason = 'NoWallet' and v_fault = '' and p_currency is not null and p_amount_micros > 0 then
    return wallet_refused(r, 'CurrencyNotDeclared', p_amount_micros);
  end if;
  if r.reason <> '' then return r; end if;
  if v_fault <> '' then$n$) from unnest(array['add_wallet_credits', 'adjust_wallet']) f;
select reword(f, $o$  if v_fault <> '' then return wallet_refused(r, v_fault, p_amount_micros); end if;
  seen := wallet_replay(r, p_key, v_fingerprint);
  if seen.reason is not null then return seen; end if;
$o$, $n$  if v_fault <> '' then return wallet_refused(r, v_fault, p_amount_micros); end if;
$n$) from unnest(array['add_wallet_credits', 'adjust_wallet']) f;

-- Closes a wallet that nobody needs: empty, with nothing on hold, not suspended, and in no currency of the tenant's plan.
create function close_wallet(p_tenant text, p_currency text, p_reason text, p_actor text, p_now timestamptz)
returns wallet_result language plpgsql as $$
declare
  r wallet_result := wallet_begin(p_tenant, p_currency);
begin
  if r.reason = 'NoWallet' and exists (select from wallets where tenant = p_tenant and currency = p_currency and closed_at is not null) then
    r.success := true; r.duplicate := true; r.reason := '';
    return r;
  end if;
  if r.reason <> '' then return r; end if;
  if coalesce(btrim(p_reason), '') = '' or coalesce(btrim(p_actor), '') = '' then return wallet_refused(r, 'ReasonRequired'); end if;
  if r.balance_micros <> 0 or r.reserved_micros <> 0 or r.float_micros <> 0
     or exists (select from wallets where tenant = p_tenant and currency = r.currency and suspended_reason is not null) then
    return wallet_refused(r, 'WalletInUse');
  end if;
  if exists (select from tenant_meters m where m.tenant = p_tenant and m.currency = r.currency) then
    return wallet_refused(r, 'WalletInUse');
  end if;
  update wallets set closed_at = p_now where tenant = p_tenant and currency = r.currency;
  insert into audit_log (at, tenant, actor, action, reason, details)
    values (p_now, p_tenant, p_actor, 'wallet.close', p_reason, jsonb_build_object('currency', r.currency));
  return r;
end $$;
revoke execute on function close_wallet(text, text, text, text, timestamptz), reopen_wallet() from public;
grant execute on function close_wallet(text, text, text, text, timestamptz) to tallygate_pipeline, tallygate_admin;
grant update (closed_at) on wallets to tallygate_admin;

-- The wallet of the call's hold, where nobody says which.
select reword('status_checks', $o$     cross join lateral wallet_found(o.tenant, o.currency) f
      -- By its unique key alone: a condition on the state would invite the planner to walk all that are pending.
      left join credit_reservations c on c.tenant = o.tenant and c.call_id = o.call_id
$o$, $n$      -- By its unique key alone: a condition on the state would invite the planner to walk all that are pending.
      left join credit_reservations c on c.tenant = o.tenant and c.call_id = o.call_id
     cross join lateral wallet_found(o.tenant, coalesce(o.currency, c.currency)) f
$n$);

alter table provider_calls drop constraint provider_calls_pkey, add primary key (tenant, provider, call_id);
create or replace function save_provider_call(p provider_calls) returns void language sql as $$
  insert into provider_calls as x select (p).* on conflict (tenant, provider, call_id) do update
     set status = p.status, started_at = coalesce(x.started_at, p.started_at), ended_at = coalesce(p.ended_at, x.ended_at),
         currency = coalesce(p.currency, x.currency), cost_micros = p.cost_micros, transaction_id = p.transaction_id,
         doc = x.doc || p.doc, seen_at = p.seen_at
$$;
select reword(f, 'provider_calls where provider = p_provider and call_id = p_call_id',
              'provider_calls where tenant = p_tenant and provider = p_provider and call_id = p_call_id')
  from unnest(array['provider_call_starting', 'provider_call_ended']) f;

-- `spelled`: as earlier versions told whether usage is the same, by the moment as it was written.
select reword('book_direct_usage', $o$d.fingerprint = r.row ->> 'fingerprint' then$o$,
              $n$d.fingerprint in (r.row ->> 'fingerprint', r.row ->> 'spelled') then$n$);

drop function reword(text, text, text);
