-- What the wallet writes most refers to rows that cannot go away: transfers, transactions, accounts and wallets. So its references
-- are checked once for each statement, not by a query for each of a row's columns, which was a third of a reservation's cost. As
-- strict as before: a row that refers to nothing is refused, and nothing that could be referred to can be removed.
-- Each reference is looked up by its key: of the rows of one statement the planner knows nothing, and would read the whole table.

-- All at once: what runs meanwhile waits, and deadlocks with nothing.
lock table tenants, wallets, ledger_accounts, ledger_transfers, ledger_postings, credit_transactions, credit_reservations
  in access exclusive mode;

create trigger tenants_are_kept before delete or truncate on tenants for each statement execute function refuse_change();
create trigger tenants_keep_their_ids before update of id on tenants for each statement execute function refuse_change();
create trigger ledger_accounts_append_only before update or delete or truncate on ledger_accounts
  for each statement execute function refuse_change();
create trigger wallets_are_kept before delete or truncate on wallets for each statement execute function refuse_change();
create trigger wallets_keep_their_keys before update of tenant, currency on wallets for each statement execute function refuse_change();
create trigger credit_reservations_keep_their_keys before update of tenant, currency, call_id, hold, reserve_transaction on credit_reservations
  for each statement execute function refuse_change();
alter table tenants enable always trigger tenants_are_kept;
alter table tenants enable always trigger tenants_keep_their_ids;
alter table ledger_accounts enable always trigger ledger_accounts_append_only;
alter table credit_reservations enable always trigger credit_reservations_keep_their_keys;
alter table wallets enable always trigger wallets_are_kept;
alter table wallets enable always trigger wallets_keep_their_keys;

alter table ledger_postings drop constraint ledger_postings_transfer_fkey, drop constraint ledger_postings_account_fkey;
alter table ledger_transfers drop constraint ledger_transfers_tenant_fkey, drop constraint ledger_transfers_resolves_fkey;
alter table credit_transactions drop constraint credit_transactions_tenant_currency_fkey,
  drop constraint credit_transactions_transfer_fkey;
alter table credit_reservations drop constraint credit_reservations_tenant_currency_fkey, drop constraint credit_reservations_hold_fkey,
  drop constraint credit_reservations_reserve_transaction_fkey, drop constraint credit_reservations_commit_transaction_fkey;

-- I4 ZeroSum, as before, and that its transfers and accounts are there.
create or replace function check_zero_sum() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
  bad record;
begin
  select p.transfer, p.commodity, sum(p.amount) as total, bool_or(p.commodity is null or not p.transferred) as dangling into bad
    from (select n.transfer, n.amount, (select a.commodity from ledger_accounts a where a.id = n.account) as commodity,
                 (select true from ledger_transfers t where t.id = n.transfer) is not null as transferred
            from new_postings n offset 0) p  -- offset: each row is looked up once
   group by p.transfer, p.commodity having sum(p.amount) <> 0 or bool_or(p.commodity is null or not p.transferred) limit 1;
  if bad.dangling then perform refuse_reference(tg_table_name, 'transfer or account', bad.transfer::text); end if;
  if found then
    raise exception 'ZeroSum: the postings added to transfer % in % sum to %', bad.transfer, bad.commodity, bad.total
      using errcode = 'integrity_constraint_violation';
  end if;
  return null;
end $$;

create function refuse_reference(p_table name, p_what text, p_row text) returns void language plpgsql as $$
begin
  raise exception 'a row of % refers to a % that is not there: %', p_table, p_what, p_row using errcode = 'foreign_key_violation';
end $$;

create function check_transfer_references() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
  bad record;
begin
  select n.id into bad from new_rows n
   where (n.tenant is not null and (select t.id from tenants t where t.id = n.tenant) is null)
      or (n.resolves is not null and (select t.id from ledger_transfers t where t.id = n.resolves) is null) limit 1;
  if found then perform refuse_reference(tg_table_name, 'tenant or transfer', bad.id::text); end if;
  return null;
end $$;
create trigger ledger_transfers_references after insert on ledger_transfers referencing new table as new_rows
  for each statement execute function check_transfer_references();

create function check_transaction_references() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
  bad record;
begin
  select n.id into bad from new_rows n
   where (select w.tenant from wallets w where w.tenant = n.tenant and w.currency = n.currency) is null
      or (n.transfer is not null and (select t.id from ledger_transfers t where t.id = n.transfer) is null) limit 1;
  if found then perform refuse_reference(tg_table_name, 'wallet or transfer', bad.id::text); end if;
  return null;
end $$;
create trigger credit_transactions_references after insert on credit_transactions referencing new table as new_rows
  for each statement execute function check_transaction_references();

create function check_reservation_references() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
  bad record;
begin
  if tg_op = 'INSERT' then
    select n.id into bad from new_rows n
     where (select w.tenant from wallets w where w.tenant = n.tenant and w.currency = n.currency) is null
        or (n.hold is not null and (select t.id from ledger_transfers t where t.id = n.hold) is null)
        or (n.reserve_transaction is not null and (select t.id from credit_transactions t where t.id = n.reserve_transaction) is null)
        or (n.commit_transaction is not null and (select t.id from credit_transactions t where t.id = n.commit_transaction) is null) limit 1;
  else
    select n.id into bad from new_rows n
     where n.commit_transaction is not null and (select t.id from credit_transactions t where t.id = n.commit_transaction) is null limit 1;
  end if;
  if found then perform refuse_reference(tg_table_name, 'wallet, transfer or transaction', bad.id::text); end if;
  return null;
end $$;
create trigger credit_reservations_new_references after insert on credit_reservations referencing new table as new_rows
  for each statement execute function check_reservation_references();
create trigger credit_reservations_changed_references after update on credit_reservations referencing new table as new_rows
  for each statement execute function check_reservation_references();

alter table ledger_transfers enable always trigger ledger_transfers_references;
alter table credit_transactions enable always trigger credit_transactions_references;
alter table credit_reservations enable always trigger credit_reservations_new_references;
alter table credit_reservations enable always trigger credit_reservations_changed_references;

-- Only what resolves a hold is in it.
alter table ledger_transfers drop constraint ledger_transfers_resolves_key;
create unique index ledger_transfers_resolves on ledger_transfers (resolves) where resolves is not null;
