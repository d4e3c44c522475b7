-- Money that comes in by Stripe: customers, top-ups of wallets, and what refunds and disputes take of a payment again. Everything is
-- done once by Stripe's own ids, in whatever order events come. Only what this ledger has opened credits anything.

-- Customers made here, each once: the row first. Those that manifests name are not here.
create table stripe_customers (
  tenant text primary key references tenants,
  id text unique,                                   -- Stripe's; null: it is being made
  attempt_key text not null unique,                 -- Idempotency-Key of the attempt; Stripe knows it for a day
  attempted_at timestamptz not null,
  created_at timestamptz not null
);

-- opening: Stripe is being asked, or nobody knows what it answered. open: it can be paid. processing: paid by a means that takes days.
-- The amounts are fixed when it is opened, whatever tax is added or coupon is taken off.
create table wallet_topups (
  id text primary key check (id ~ '^tu_[0-9a-f]{32}$'),
  tenant text not null references tenants,
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  amount_micros bigint not null check (amount_micros > 0),        -- what the wallet gets
  pay_currency text not null check (pay_currency ~ '^[A-Z]{3}$'),
  pay_micros bigint not null check (pay_micros > 0),              -- what the customer is asked for, before tax
  pay_minor bigint not null check (pay_minor > 0),                -- the same in Stripe's units
  quote text references quotes,                                   -- where the currencies differ
  customer_id text not null,
  success_url text not null,
  cancel_url text not null,
  attempt_key text not null unique,                               -- Idempotency-Key of the session
  state text not null check (state in ('opening', 'open', 'processing', 'paid', 'failed', 'expired')),
  session_id text unique,
  url text,
  error text not null default '',
  transaction bigint references credit_transactions,
  opened_at timestamptz not null,
  expires_at timestamptz not null,                                -- of the session
  closed_at timestamptz,
  check ((state = 'paid') = (transaction is not null))
);
create unique index wallet_topups_open on wallet_topups (tenant, currency) where state in ('opening', 'open');
create index wallet_topups_tenant on wallet_topups (tenant, opened_at desc);

create table wallet_topup_keys (
  tenant text not null references tenants,
  idempotency_key text not null check (length(idempotency_key) between 1 and 255),
  fingerprint text not null,
  topup text not null references wallet_topups,
  primary key (tenant, idempotency_key)
);

-- A payment that has credited a wallet, as refunds and disputes know it.
create table stripe_payments (
  payment_intent text primary key,
  tenant text not null references tenants,
  currency text not null,
  credited_micros bigint not null check (credited_micros > 0),
  pay_currency text not null,                           -- what the customer paid in
  paid_minor bigint not null check (paid_minor >= 0),   -- by the customer in all, tax included, in units of Stripe
  taken_micros bigint not null default 0 check (taken_micros between 0 and credited_micros),
  created_at timestamptz not null
);

-- A refund or a dispute. It counts while it has taken money and not given it back. Those of payments that are none of ours are kept
-- too: the event that makes one ours may come later.
create table stripe_takings (
  id text primary key,                              -- Stripe's
  kind text not null check (kind in ('refund', 'dispute')),
  payment_intent text not null,
  amount_minor bigint not null check (amount_minor >= 0),
  currency text not null,
  taken boolean not null default false,             -- a refund: it is there. A dispute: funds were withdrawn
  given_back boolean not null default false,        -- it failed or was cancelled; it was won, and funds were reinstated
  reinstated boolean not null default false,        -- of a dispute: at least some. Of one that is lost, what had been refunded before it
  counted boolean not null default false,           -- in the payment's taken_micros
  outcome text not null default '',                 -- of a dispute that is closed
  suspends boolean not null default false,
  tenant text references tenants,                   -- once its payment is known
  seen_at timestamptz not null
);
create index stripe_takings_payment on stripe_takings (payment_intent);

-- ---- Customers

-- The tenant's row, made where there is none.
create function stripe_customer(p_tenant text, p_key text, p_now timestamptz, out o_id text, out o_key text, out o_attempted_at timestamptz)
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  perform require_own_tenant(p_tenant);
  insert into stripe_customers (tenant, attempt_key, attempted_at, created_at) values (p_tenant, p_key, p_now, p_now) on conflict do nothing;
  select id, attempt_key, attempted_at into o_id, o_key, o_attempted_at from stripe_customers where tenant = p_tenant;
end $$;

-- A new attempt in place of one that Stripe has forgotten by now. The key that is in force.
create function stripe_customer_again(p_tenant text, p_former text, p_key text, p_now timestamptz) returns text language plpgsql
security definer set search_path = public, pg_temp as $$
begin
  perform require_own_tenant(p_tenant);
  update stripe_customers set attempt_key = p_key, attempted_at = p_now where tenant = p_tenant and id is null and attempt_key = p_former;
  return (select attempt_key from stripe_customers where tenant = p_tenant);
end $$;

-- It is made, or found. The first word holds.
create function stripe_customer_made(p_tenant text, p_id text) returns text language plpgsql
security definer set search_path = public, pg_temp as $$
begin
  perform require_own_tenant(p_tenant);
  update stripe_customers set id = p_id where tenant = p_tenant and id is null;
  return (select id from stripe_customers where tenant = p_tenant);
end $$;

-- ---- Top-ups

-- Verdicts: new; known (this key's, or the one that is open already for the same amounts); expire (another one is open: it is to be
-- closed at Stripe first); IdempotencyMismatch, UnknownTenant, TenantDeleted, or TopUpLimit with o_limit: attempts or first_day.
-- New tenants of one's own may be anybody with stolen cards: so a tenant has only so many attempts in 24 hours, and until a day
-- after its first payment only so much money.
create function topup_begin(p_tenant text, p_key text, p_fingerprint text, p_new wallet_topups, p_attempts_max bigint,
    p_first_day_max_micros bigint, p_now timestamptz, out o_verdict text, out o_limit text, out o_topup wallet_topups)
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  k wallet_topup_keys;
  t tenants;
begin
  perform require_own_tenant(p_tenant);
  perform pg_advisory_xact_lock(hashtextextended('tallygate top-up ' || p_tenant, 0));
  select * into t from tenants where id = p_tenant;
  if not found then o_verdict := 'UnknownTenant'; return; end if;
  select * into k from wallet_topup_keys where tenant = p_tenant and idempotency_key = p_key;
  if found then
    o_verdict := case when k.fingerprint = p_fingerprint then 'known' else 'IdempotencyMismatch' end;
    select * into o_topup from wallet_topups where id = k.topup;
    return;
  end if;
  if t.deleted_at is not null then o_verdict := 'TenantDeleted'; return; end if;
  update wallet_topups set state = 'expired', closed_at = p_now
   where tenant = p_tenant and currency = p_new.currency and state in ('opening', 'open') and expires_at <= p_now;
  select * into o_topup from wallet_topups where tenant = p_tenant and currency = p_new.currency and state in ('opening', 'open');
  if found then
    if (o_topup.amount_micros, o_topup.pay_currency, o_topup.pay_minor) = (p_new.amount_micros, p_new.pay_currency, p_new.pay_minor) then
      insert into wallet_topup_keys values (p_tenant, p_key, p_fingerprint, o_topup.id);
      o_verdict := 'known';
      return;
    end if;
    o_verdict := 'expire';                          -- unless no other may be begun
  end if;
  if (select count(*) from wallet_topups where tenant = p_tenant and opened_at > p_now - interval '24 hours') >= p_attempts_max then
    o_verdict := 'TopUpLimit'; o_limit := 'attempts'; return;
  end if;
  if not exists (select from wallet_topups where tenant = p_tenant and state = 'paid' and closed_at <= p_now - interval '24 hours')
     and p_new.pay_micros + (select coalesce(sum(pay_micros), 0) from wallet_topups
                              where tenant = p_tenant and pay_currency = p_new.pay_currency and id is distinct from o_topup.id
                                and state in ('opening', 'open', 'processing', 'paid'))
         > p_first_day_max_micros then
    o_verdict := 'TopUpLimit'; o_limit := 'first_day'; return;
  end if;
  if o_verdict = 'expire' then return; end if;
  o_topup := p_new;
  o_topup.state := 'opening'; o_topup.error := ''; o_topup.opened_at := p_now;
  insert into wallet_topups select o_topup.*;
  insert into wallet_topup_keys values (p_tenant, p_key, p_fingerprint, o_topup.id);
  o_verdict := 'new';
end $$;

-- Stripe has made its session.
create function topup_opened(p_tenant text, p_id text, p_session text, p_url text, p_now timestamptz) returns wallet_topups
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  t wallet_topups;
begin
  perform require_own_tenant(p_tenant);
  update wallet_topups set state = case when state = 'opening' then 'open' else state end, session_id = p_session, url = p_url
   where id = p_id and tenant = p_tenant and session_id is null;
  select * into t from wallet_topups where id = p_id and tenant = p_tenant;
  return t;
end $$;

-- Stripe has failed inside, and would say so for a day under this key: the next attempt has another. A session that it may have made
-- is nobody's: its URL was told to nobody.
create function topup_again(p_tenant text, p_id text, p_former text, p_key text) returns void language plpgsql
security definer set search_path = public, pg_temp as $$
begin
  perform require_own_tenant(p_tenant);
  update wallet_topups set attempt_key = p_key where id = p_id and tenant = p_tenant and state = 'opening' and attempt_key = p_former;
end $$;

-- It cannot be paid (any more): Stripe would not make its session, or has closed it, or somebody pays it just now (processing).
create function topup_closed(p_tenant text, p_id text, p_state text, p_error text, p_now timestamptz) returns wallet_topups
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  t wallet_topups;
begin
  perform require_own_tenant(p_tenant);
  update wallet_topups set state = p_state, error = left(p_error, 500), closed_at = case when p_state = 'processing' then null else p_now end
   where id = p_id and tenant = p_tenant and state in ('opening', 'open');
  select * into t from wallet_topups where id = p_id and tenant = p_tenant;
  return t;
end $$;

-- ---- What events do

-- Whatever is of one payment waits for one another: a refund may come while its payment is being credited. Before any row's lock.
create function stripe_lock_payment(o jsonb) returns void language plpgsql as $$
begin
  if stripe_ref(o -> 'payment_intent') is not null then
    perform pg_advisory_xact_lock(hashtextextended('tallygate payment ' || stripe_ref(o -> 'payment_intent'), 0));
  end if;
end $$;

-- Takes of the payment what this refund or dispute takes, or gives it back: what they all take together, at the payment's own rate,
-- and never more than it brought. May take the balance below its floor: the money is gone.
create function stripe_settle(p_taking text, p_now timestamptz) returns text language plpgsql as $$
declare
  k stripe_takings;
  p stripe_payments;
  r wallet_result;
  v_sum numeric;
  v_target bigint;
  v_change bigint;
  v_kind text;
begin
  select payment_intent into k.payment_intent from stripe_takings where id = p_taking;
  select * into p from stripe_payments where payment_intent = k.payment_intent for update;
  if not found then return 'foreign'; end if;
  r := wallet_begin(p.tenant, p.currency);
  select * into k from stripe_takings where id = p_taking for update;
  if k.counted = (k.taken and not k.given_back) then
    update stripe_takings set tenant = p.tenant where id = k.id;
    return 'nothing more';
  end if;
  if k.currency <> p.pay_currency then
    raise exception '% % is in %, and its payment was in %: how much of it is gone cannot be told', k.kind, k.id, k.currency, p.pay_currency;
  end if;
  update stripe_takings set counted = not k.counted, tenant = p.tenant where id = k.id;
  select coalesce(sum(amount_minor), 0) into v_sum from stripe_takings where payment_intent = p.payment_intent and counted;
  v_target := case when v_sum = 0 then 0 when v_sum >= p.paid_minor then p.credited_micros
                   else half_even(p.credited_micros * v_sum, p.paid_minor) end;
  v_change := p.taken_micros - v_target;
  v_kind := case when k.kind = 'refund' then case when k.counted then 'refund_failed' else 'refund' end
                 when k.counted then 'dispute_won' else 'dispute' end;
  if v_change <> 0 then
    r.requested_micros := abs(v_change);
    if v_kind = 'dispute' and k.suspends then r.state := 'suspending'; end if;
    perform wallet_done(r, replace(v_kind, '_failed', ''), '~' || v_kind || '/' || k.id, v_kind, v_change, 0,
                        case k.kind when 'refund' then 'funding' else 'disputes' end, null, format('%s/%s/%s', v_kind, p.tenant, k.id),
                        k.id, p_now);
    update stripe_payments set taken_micros = v_target where payment_intent = p.payment_intent;
  end if;
  if k.kind = 'dispute' then perform stripe_dispute_suspends(k.id, v_kind = 'dispute'); end if;
  insert into audit_log (at, tenant, actor, action, details)
    values (p_now, p.tenant, 'provider', 'wallet.' || v_kind, jsonb_build_object(k.kind, k.id, 'payment', p.payment_intent,
            'currency', p.currency, 'amount_micros', v_change));
  return v_kind;
end $$;

-- The wallet is as those disputes leave it that have money still.
create function stripe_dispute_suspends(p_dispute text, p_begins boolean) returns void language plpgsql as $$
declare
  k stripe_takings;
  p stripe_payments;
begin
  select * into k from stripe_takings where id = p_dispute;
  select * into p from stripe_payments where payment_intent = k.payment_intent;
  if p_begins then
    update wallets set suspended_reason = coalesce(suspended_reason, '~dispute/' || k.id)
     where tenant = p.tenant and currency = p.currency and k.suspends;
  else
    update wallets w set suspended_reason = (
        select min('~dispute/' || o.id) from stripe_takings o join stripe_payments q on q.payment_intent = o.payment_intent
         where q.tenant = w.tenant and q.currency = w.currency and o.kind = 'dispute' and o.counted and o.suspends and o.id <> k.id)
     where w.tenant = p.tenant and w.currency = p.currency and w.suspended_reason = '~dispute/' || k.id;
  end if;
end $$;

create function stripe_topup_paid(t wallet_topups, p_session jsonb, p_now timestamptz) returns text language plpgsql as $$
declare
  r wallet_result;
  v_payment text := stripe_ref(p_session -> 'payment_intent');
begin
  if t.state = 'paid' then return 'nothing more'; end if;
  perform wallet_open(t.tenant, t.currency);
  r := wallet_begin(t.tenant, t.currency);
  if r.reason <> '' then raise exception 'the wallet of top-up % cannot be credited: %', t.id, r.reason; end if;
  if r.balance_micros > 1000000000000000000 - t.amount_micros then
    raise exception 'the wallet of top-up % cannot be credited: the balance would be out of range', t.id;
  end if;
  r.requested_micros := t.amount_micros;
  r := wallet_done(r, 'credit', '~topup/' || t.session_id, 'topup', t.amount_micros, 0, 'funding', null, 'topup/' || t.session_id, t.id, p_now);
  update wallet_topups set state = 'paid', transaction = r.transaction_id, closed_at = p_now where id = t.id;
  if t.quote is not null then
    insert into quoted_amounts (transaction, tenant, quote, amount_micros) values (r.transaction_id, t.tenant, t.quote, t.pay_micros);
  end if;
  if v_payment is null then return 'credited'; end if;
  insert into stripe_payments (payment_intent, tenant, currency, credited_micros, pay_currency, paid_minor, created_at)
    values (v_payment, t.tenant, t.currency, t.amount_micros, t.pay_currency, coalesce((p_session ->> 'amount_total')::bigint, t.pay_minor), p_now);
  perform stripe_settle(k.id, p_now) from (select id from stripe_takings where payment_intent = v_payment order by id) k;
  perform stripe_dispute_lost(k.id, p_now) from (select id from stripe_takings where payment_intent = v_payment order by id) k;
  return 'credited';
end $$;

create function stripe_session_effect(e webhook_events, o jsonb, p_now timestamptz) returns text language plpgsql as $$
declare
  t wallet_topups;
begin
  perform stripe_lock_payment(o);
  select * into t from wallet_topups where session_id = o ->> 'id' for update;
  if not found then
    -- It names a top-up as this ledger makes them, and is paid: the ledger may have lost it (a restore). It credits nothing, and a person sees it.
    if o ->> 'client_reference_id' ~ '^tu_[0-9a-f]{32}$' and o ->> 'payment_status' = 'paid' and o #>> '{metadata,tallygate_topup}' is not null
       and not exists (select from wallet_topups where id = o ->> 'client_reference_id') then
      raise exception 'session % was paid for top-up %, which this ledger does not have', o ->> 'id', o ->> 'client_reference_id';
    end if;
    return 'foreign';
  end if;
  update webhook_events set tenant = t.tenant where id = e.id;
  if o ->> 'payment_status' = 'paid' or e.type = 'checkout.session.async_payment_succeeded' then return stripe_topup_paid(t, o, p_now); end if;
  if t.state = 'paid' then return 'nothing more'; end if;
  if e.type = 'checkout.session.completed' then
    if o ->> 'payment_status' <> 'unpaid' then
      raise exception 'session % is complete and its payment_status is %: nothing was paid', t.session_id, o ->> 'payment_status';
    end if;
    update wallet_topups set state = 'processing' where id = t.id and state in ('opening', 'open');
    return 'processing';
  end if;
  if e.type not in ('checkout.session.async_payment_failed', 'checkout.session.expired') then return 'ignored'; end if;
  update wallet_topups set state = case when e.type = 'checkout.session.expired' then 'expired' else 'failed' end, closed_at = p_now
   where id = t.id and state in ('opening', 'open', 'processing');
  return case when e.type = 'checkout.session.expired' then 'expired' else 'failed' end;
end $$;

-- Makes its row where there is none; null where it is of no payment.
create function stripe_taking(e webhook_events, p_kind text, o jsonb, p_suspends boolean, p_now timestamptz) returns stripe_takings
language plpgsql as $$
declare
  k stripe_takings;
begin
  if stripe_ref(o -> 'payment_intent') is null then return null; end if;
  insert into stripe_takings (id, kind, payment_intent, amount_minor, currency, suspends, seen_at)
    values (o ->> 'id', p_kind, stripe_ref(o -> 'payment_intent'), (o ->> 'amount')::bigint, upper(o ->> 'currency'), p_kind = 'dispute' and p_suspends, p_now)
    on conflict (id) do nothing;
  select * into k from stripe_takings where id = o ->> 'id' for update;
  update webhook_events set tenant = (select tenant from stripe_payments where payment_intent = k.payment_intent) where id = e.id;
  return k;
end $$;

-- A refund that has failed has failed for good, whatever comes after.
create function stripe_refund_effect(e webhook_events, o jsonb, p_now timestamptz) returns text language plpgsql as $$
declare
  k stripe_takings;
  v_failed boolean := e.type = 'refund.failed' or o ->> 'status' in ('failed', 'canceled');
begin
  perform stripe_lock_payment(o);
  k := stripe_taking(e, 'refund', o, false, p_now);
  if k.id is null then return 'foreign'; end if;
  update stripe_takings set taken = taken or not v_failed, given_back = given_back or v_failed where id = k.id;
  return stripe_settle(k.id, p_now);
end $$;

-- The house's side of a dispute that is lost: the money is gone for good.
create function stripe_dispute_lost(p_dispute text, p_now timestamptz) returns void language plpgsql as $$
declare
  k stripe_takings;
begin
  select * into k from stripe_takings where id = p_dispute;
  if k.kind = 'dispute' and k.outcome = 'lost' and k.counted then perform close_dispute(k.tenant, k.id, false, p_now); end if;
end $$;

-- Money moves when funds do, and at no other word: an inquiry takes nothing. A dispute's end may come before its beginning.
create function stripe_dispute_effect(e webhook_events, o jsonb, p_suspends boolean, p_now timestamptz) returns text language plpgsql as $$
declare
  k stripe_takings;
  v_result text;
begin
  if e.type not in ('charge.dispute.funds_withdrawn', 'charge.dispute.funds_reinstated', 'charge.dispute.closed') then return 'ignored'; end if;
  perform stripe_lock_payment(o);
  k := stripe_taking(e, 'dispute', o, p_suspends, p_now);
  if k.id is null then return 'foreign'; end if;
  update stripe_takings
     set taken = taken or e.type = 'charge.dispute.funds_withdrawn', reinstated = reinstated or e.type = 'charge.dispute.funds_reinstated',
         outcome = case when o ->> 'status' in ('won', 'lost') then o ->> 'status' else outcome end
   where id = k.id;
  -- Of a payment that was refunded in part before it was disputed, that part comes back whoever wins; what both take together is never
  -- more than the payment brought (stripe_settle), so that nothing is to be done for it.
  update stripe_takings set given_back = true where id = k.id and reinstated and outcome = 'won';
  v_result := stripe_settle(k.id, p_now);
  perform stripe_dispute_lost(k.id, p_now);
  return v_result;
end $$;

create or replace function stripe_effect(e webhook_events, p_object jsonb, p_suspends boolean, p_now timestamptz) returns text
language plpgsql as $$
begin
  if e.type like 'checkout.session.%' then return stripe_session_effect(e, p_object, p_now); end if;
  if e.type in ('refund.created', 'refund.updated', 'refund.failed', 'charge.refund.updated') then
    return stripe_refund_effect(e, p_object, p_now);
  end if;
  if e.type like 'charge.dispute.%' then return stripe_dispute_effect(e, p_object, p_suspends, p_now); end if;
  return 'ignored';
end $$;

select secure_tables();
grant select on wallet_topups, wallet_topup_keys to tallygate_api, tallygate_admin;

revoke execute on function stripe_customer(text, text, timestamptz), stripe_customer_again(text, text, text, timestamptz),
  stripe_customer_made(text, text), topup_begin(text, text, text, wallet_topups, bigint, bigint, timestamptz),
  topup_opened(text, text, text, text, timestamptz), topup_again(text, text, text, text), topup_closed(text, text, text, text, timestamptz),
  stripe_settle(text, timestamptz), stripe_dispute_suspends(text, boolean), stripe_topup_paid(wallet_topups, jsonb, timestamptz),
  stripe_session_effect(webhook_events, jsonb, timestamptz), stripe_taking(webhook_events, text, jsonb, boolean, timestamptz),
  stripe_refund_effect(webhook_events, jsonb, timestamptz), stripe_dispute_lost(text, timestamptz),
  stripe_dispute_effect(webhook_events, jsonb, boolean, timestamptz) from public;
grant execute on function stripe_customer(text, text, timestamptz), stripe_customer_again(text, text, text, timestamptz),
  stripe_customer_made(text, text), topup_begin(text, text, text, wallet_topups, bigint, bigint, timestamptz),
  topup_opened(text, text, text, text, timestamptz), topup_again(text, text, text, text), topup_closed(text, text, text, text, timestamptz)
  to tallygate_api, tallygate_pipeline, tallygate_admin;
grant execute on function
  stripe_settle(text, timestamptz), stripe_dispute_suspends(text, boolean), stripe_topup_paid(wallet_topups, jsonb, timestamptz),
  stripe_session_effect(webhook_events, jsonb, timestamptz), stripe_taking(webhook_events, text, jsonb, boolean, timestamptz),
  stripe_refund_effect(webhook_events, jsonb, timestamptz), stripe_dispute_lost(text, timestamptz),
  stripe_dispute_effect(webhook_events, jsonb, boolean, timestamptz) to tallygate_pipeline, tallygate_admin;
