-- Quotes: what an amount of one currency is in another, at a rate that holds until the quote expires. Stored with each quote,
-- so that what was charged at it can be told for ever.

create table quotes (
  id text primary key check (id ~ '^qt_[0-9a-f]{32}$'),
  tenant text not null references tenants,
  idempotency_key text not null check (length(idempotency_key) between 1 and 255),
  fingerprint text not null,                        -- of the request
  from_currency text not null check (from_currency ~ '^[A-Z]{3}$'),
  to_currency text not null check (to_currency ~ '^[A-Z]{3}$'),
  rate_picos bigint not null check (rate_picos > 0),  -- the rate × 10^12
  amount_micros bigint,                             -- of from_currency, where one was asked for
  converted_micros bigint,                          -- of to_currency
  created_at timestamptz not null,
  expires_at timestamptz not null,
  unique (tenant, idempotency_key)
);
create trigger quotes_append_only before update or delete or truncate on quotes for each statement execute function refuse_change();

-- What was asked for in another currency: beside the transaction in the wallet's.
create table quoted_amounts (
  transaction bigint primary key references credit_transactions,
  tenant text not null references tenants,
  quote text not null references quotes,
  amount_micros bigint not null                     -- of the quote's from_currency
);
create trigger quoted_amounts_append_only before update or delete or truncate on quoted_amounts
  for each statement execute function refuse_change();

-- A tenant's quote, for a request under p_key. It holds until it expires; after that for a request that was answered before,
-- and for the commit of p_call_id where that call was reserved under it.
create function find_quote(p_tenant text, p_quote text, p_key text, p_call_id text, p_now timestamptz)
returns table (from_currency text, to_currency text, rate_picos bigint, expires_at timestamptz, holds boolean) language sql stable as $$
  select q.from_currency, q.to_currency, q.rate_picos, q.expires_at,
         q.expires_at > p_now
         or exists (select from credit_transactions t where t.tenant = p_tenant and t.idempotency_key = p_key)
         or exists (select from credit_reservations c join quoted_amounts a on a.transaction = c.reserve_transaction
                     where c.tenant = p_tenant and c.call_id = p_call_id and a.quote = q.id)
    from quotes q where q.tenant = p_tenant and q.id = p_quote
$$;

select secure_tables();
grant select, insert on quotes, quoted_amounts to tallygate_api, tallygate_admin;
