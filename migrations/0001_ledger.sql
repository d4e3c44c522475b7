-- Who is billed, for what, and the double-entry ledger. Money is bigint micro-units of a currency; units are bigint.

create table tenants (
  id text primary key,                              -- namespace/name
  shard smallint not null check (shard between 0 and 63),
  doc jsonb not null,                               -- the compiled tenant, as published
  version bigint not null,                          -- of the publication
  suspended boolean not null default false,
  deleted_at timestamptz,                           -- usage that was admitted before still books
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table tenant_meters (
  tenant text not null references tenants,
  meter text not null,
  settlement text not null check (settlement in ('invoice', 'wallet', 'none')),
  currency text not null,
  per_units bigint not null check (per_units > 0),
  tiers jsonb not null,                             -- [{"up_to": 1000, "price_micros": 0}, {"price_micros": 400000}]
  stripe_customer_id text not null default '',
  primary key (tenant, meter)
);

create table tenant_limits (
  tenant text not null references tenants,
  limit_name text not null,
  meter text not null,
  amount bigint not null check (amount >= 0),
  capacity bigint not null check (capacity >= 0),   -- most units ever granted in a window; 2^53 − 1: unbounded
  cap text not null check (cap in ('hard', 'soft')),
  grace_duration_s bigint not null default 0 check (grace_duration_s >= 0),
  window_kind text not null,
  primary key (tenant, limit_name)
);

create table wallets (
  tenant text not null references tenants,
  currency text not null check (currency ~ '^[A-Z]{3}$'),
  balance_micros bigint not null default 0,
  debt_limit_micros bigint not null default 0 check (debt_limit_micros >= 0),
  held_micros bigint not null default 0 check (held_micros >= 0),  -- by floats: the sum of escrow_accounts.held_micros
  primary key (tenant, currency)
) with (fillfactor = 80);

-- Chart of accounts. In units (commodity 'unit:<meter>'), per tenant: consumed, unbilled, billed. Aggregation posts
-- unbilled +n, consumed −n; delivery to Stripe posts billed +n, unbilled −n. In money (commodity: the currency): wallet per
-- tenant, revenue of the house (tenant null): usage settled by the wallet posts wallet −cost, revenue +cost.
create table ledger_accounts (
  id bigint generated always as identity primary key,
  tenant text references tenants,
  kind text not null,
  commodity text not null,
  created_at timestamptz not null default now(),
  unique nulls not distinct (tenant, kind, commodity)
);

create table ledger_transfers (
  id bigint generated always as identity primary key,
  kind text not null,
  source text not null unique,                      -- what caused it; a second posting of the same cause is refused
  memo text not null default '',
  posted_at timestamptz not null
);
create index ledger_transfers_posted_at on ledger_transfers (posted_at);

create table ledger_postings (
  transfer bigint not null references ledger_transfers,
  account bigint not null references ledger_accounts,
  amount bigint not null,
  primary key (transfer, account)
);
create index ledger_postings_account on ledger_postings (account, transfer);

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: % refused', tg_table_name, tg_op using errcode = 'restrict_violation';
end $$;

create trigger ledger_postings_append_only before update or delete or truncate on ledger_postings
  for each statement execute function refuse_change();
create trigger ledger_transfers_append_only before update or delete or truncate on ledger_transfers
  for each statement execute function refuse_change();

-- I4 ZeroSum, checked when the transaction commits.
create function check_zero_sum() returns trigger language plpgsql as $$
declare
  bad record;
begin
  select a.commodity, sum(p.amount) as total into bad
    from ledger_postings p join ledger_accounts a on a.id = p.account
   where p.transfer = new.transfer group by a.commodity having sum(p.amount) <> 0 limit 1;
  if found then
    raise exception 'ZeroSum: the postings of transfer % in % sum to %', new.transfer, bad.commodity, bad.total
      using errcode = 'integrity_constraint_violation';
  end if;
  return null;
end $$;

create constraint trigger ledger_postings_zero_sum after insert on ledger_postings
  deferrable initially deferred for each row execute function check_zero_sum();

-- The account of this kind, opened on first use.
create function ledger_account(p_tenant text, p_kind text, p_commodity text) returns bigint language plpgsql as $$
declare
  v_id bigint;
begin
  loop
    select id into v_id from ledger_accounts
     where tenant is not distinct from p_tenant and kind = p_kind and commodity = p_commodity;
    if found then return v_id; end if;
    insert into ledger_accounts (tenant, kind, commodity) values (p_tenant, p_kind, p_commodity)
      on conflict do nothing returning id into v_id;
    if found then return v_id; end if;
  end loop;
end $$;

-- Moves `p_amount` from one account to another. Returns the transfer's id, or null where this source was posted before.
create function ledger_post(p_kind text, p_source text, p_memo text, p_posted_at timestamptz, p_from bigint, p_to bigint,
                            p_amount bigint) returns bigint language plpgsql as $$
declare
  v_id bigint;
begin
  insert into ledger_transfers (kind, source, memo, posted_at) values (p_kind, p_source, p_memo, p_posted_at)
    on conflict (source) do nothing returning id into v_id;
  if not found then return null; end if;
  insert into ledger_postings (transfer, account, amount) values (v_id, p_from, -p_amount), (v_id, p_to, p_amount);
  return v_id;
end $$;
