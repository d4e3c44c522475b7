-- What a wallet's owner reads of it, usage included, and what sidecars hear of it.

-- Usage that a wallet paid for, as a line of its history: all of an hour (UTC), of all meters, that no other transaction came
-- into. One posting a second would hide the rest, and lines of a fixed hour would not add up to the balances of what lies
-- between. A correction is a line of its own. Only a wallet's last line ever grows.
create table wallet_usage (
  id bigint primary key references ledger_transfers,  -- the first transfer of the line: its place in the history
  tenant text not null,
  currency text not null,
  kind text not null check (kind in ('usage', 'usage_correction')),
  hour timestamptz not null,
  amount_micros bigint not null,                    -- the balance's change
  balance_after_micros bigint not null,
  units jsonb not null,                             -- {"meter": units}
  description text not null default '',
  created_at timestamptz not null,
  updated_at timestamptz not null,
  foreign key (tenant, currency) references wallets
) with (fillfactor = 70);
create index wallet_usage_history on wallet_usage (tenant, currency, id desc);

-- One order for the whole history: that of the ledger's transfers, which a wallet's lock makes that of its changes.
drop index credit_transactions_history;
create index credit_transactions_history on credit_transactions (tenant, currency, transfer desc);

-- Units of the account that its wallet's history tells of. Usage that costs nothing by itself (a free tier, a fraction of a
-- micro) is told with the next that does.
alter table escrow_accounts add column told bigint not null default 0;
update escrow_accounts set told = booked where wallet;

-- What was charged before this migration. A transfer's memo says how many units of which meter.
with moves as (
  select t.id, a.tenant, a.commodity as currency, t.posted_at, sum(p.amount)::bigint as amount, t.kind = 'wallet_usage' as usage,
         case when t.kind = 'wallet_usage' then date_trunc('hour', t.posted_at, 'UTC') end as hour,
         split_part(t.memo, ' units of ', 1) as units, split_part(t.memo, ' units of ', 2) as meter
    from ledger_transfers t join ledger_postings p on p.transfer = t.id join ledger_accounts a on a.id = p.account
   where a.kind in ('wallet', 'holds') group by t.id, a.tenant, a.commodity
), balances as (
  select m.*, sum(amount) over wallet as balance, case when hour is distinct from lag(hour) over wallet then 1 else 0 end as starts
    from moves m window wallet as (partition by tenant, currency order by id)
), numbered as (
  select b.*, sum(starts) over (partition by tenant, currency order by id) as line from balances b
), meters as (
  select tenant, currency, line, hour, meter, min(id) as first, max(id) as last, sum(amount)::bigint as amount,
         sum(units::numeric)::bigint as units, min(posted_at) as created_at, max(posted_at) as updated_at
    from numbered where usage group by tenant, currency, line, hour, meter
), lines as (
  select tenant, currency, hour, min(first) as first, max(last) as last, sum(amount) as amount, jsonb_object_agg(meter, units) as units,
         min(created_at) as created_at, max(updated_at) as updated_at
    from meters group by tenant, currency, line, hour
)
insert into wallet_usage (id, tenant, currency, kind, hour, amount_micros, balance_after_micros, units, created_at, updated_at)
  select l.first, l.tenant, l.currency, 'usage', l.hour, l.amount, b.balance, l.units, l.created_at, l.updated_at
    from lines l join balances b on b.id = l.last and b.tenant = l.tenant and b.currency = l.currency;

-- Adds a charge to the wallet's history. The wallet is locked.
create function note_usage(p_transfer bigint, p_tenant text, p_currency text, p_kind text, p_meter text, p_units bigint,
    p_amount bigint, p_balance bigint, p_description text, p_now timestamptz) returns void language plpgsql as $$
declare
  u wallet_usage;
begin
  select * into u from wallet_usage where tenant = p_tenant and currency = p_currency order by id desc limit 1;
  if u.kind = 'usage' and p_kind = 'usage' and u.hour = date_trunc('hour', p_now, 'UTC')
     and u.id > coalesce((select t.transfer from credit_transactions t where t.tenant = p_tenant and t.currency = p_currency
                           order by t.transfer desc limit 1), 0) then
    update wallet_usage
       set amount_micros = u.amount_micros + p_amount, balance_after_micros = p_balance, updated_at = p_now,
           units = u.units || jsonb_build_object(p_meter, coalesce((u.units ->> p_meter)::bigint, 0) + p_units)
     where id = u.id;
  else
    insert into wallet_usage (id, tenant, currency, kind, hour, amount_micros, balance_after_micros, units, description, created_at, updated_at)
      values (p_transfer, p_tenant, p_currency, p_kind, date_trunc('hour', p_now, 'UTC'), p_amount, p_balance,
              jsonb_build_object(p_meter, p_units), p_description, p_now, p_now);
  end if;
end $$;

-- As before, and tells the history.
alter function post_usage(escrow_accounts, numeric, text, bigint, text, text, timestamptz) rename to post_usage_charge;
create function post_usage(p_account escrow_accounts, p_units numeric, p_currency text, p_cost bigint, p_source text, p_correction text,
    p_now timestamptz, out o_transfer bigint, out o_balance_micros bigint) language plpgsql as $$
begin
  select * into o_transfer, o_balance_micros
    from post_usage_charge(p_account, p_units, p_currency, p_cost, p_source, p_correction, p_now);
  if o_transfer is null then return; end if;
  if p_correction is null then
    perform note_usage(o_transfer, p_account.tenant, p_currency, 'usage', p_account.name,
                       bounded(p_account.booked + p_units - p_account.told), -p_cost, o_balance_micros, '', p_now);
    update escrow_accounts set told = booked where id = p_account.id;
  else
    perform note_usage(o_transfer, p_account.tenant, p_currency, 'usage_correction', p_account.name, bounded(p_units), -p_cost,
                       o_balance_micros, p_correction, p_now);
    update escrow_accounts set told = told + p_units where id = p_account.id;
  end if;
end $$;

-- The history, newest first: what keys did, and usage. The cursor is a row's place. Its cost is bounded: the index gives each
-- wallet's page, however long its history.
drop function wallet_transactions(text, text, bigint, integer);
create function wallet_transactions(p_tenant text, p_currency text, p_before bigint, p_limit integer)
returns table (place bigint, id text, currency text, kind text, idempotency_key text, amount_micros bigint, balance_after_micros bigint,
               call_id text, description text, created_at timestamptz, updated_at timestamptz, units jsonb,
               quote text, quoted_currency text, quoted_micros bigint, rate_picos bigint) language sql stable as $$
  select h.*, q.quote, r.from_currency, q.amount_micros, r.rate_picos
    from (select x.* from wallets w cross join lateral (
            (select t.transfer as place, t.id::text as id, t.currency, t.kind, t.idempotency_key, t.amount_micros, t.balance_after_micros,
                    t.call_id, t.description, t.created_at, t.created_at as updated_at, null::jsonb as units
               from credit_transactions t
              where t.tenant = w.tenant and t.currency = w.currency and t.transfer < coalesce(p_before, 9223372036854775807)
              order by t.transfer desc limit least(greatest(p_limit, 0), 500))
            union all
            (select u.id, 'u' || u.id, u.currency, u.kind, null, u.amount_micros, u.balance_after_micros,
                    null, u.description, u.created_at, u.updated_at, u.units
               from wallet_usage u
              where u.tenant = w.tenant and u.currency = w.currency and u.id < coalesce(p_before, 9223372036854775807)
              order by u.id desc limit least(greatest(p_limit, 0), 500))) x
           where w.tenant = p_tenant and (p_currency is null or w.currency = p_currency)
           order by x.place desc limit least(greatest(p_limit, 0), 500)) h
    left join quoted_amounts q on q.transaction = case when h.units is null then h.id::bigint end
    left join quotes r on r.id = q.quote
   order by h.place desc
$$;

-- Tenants that the ledger has suspended, a dispute having done so to one of their wallets: sidecars and gates refuse all of
-- their requests. The manifest's own suspension is tenants.suspended.
create function suspended_tenants(p_tenant text default null) returns table (tenant text, reason text) language sql stable as $$
  select w.tenant, min(w.suspended_reason) from wallets w
   where w.suspended_reason is not null and (p_tenant is null or w.tenant = p_tenant) group by w.tenant order by w.tenant
$$;
create index wallets_suspended on wallets (tenant) where suspended_reason is not null;

select secure_tables();
grant select on wallet_usage to tallygate_api;
