-- Who sees what. Row-level security is on, and forced on the owner too, for every table:
--   tallygate_api       one tenant per transaction: select set_config('tallygate.tenant', …, true)
--   tallygate_pipeline  the operator's loops: all tenants. The user that migrates is a member, so loops need no SET ROLE
--   tallygate_admin     all tenants, adjustments; the audit log and postings are append-only for it as for all
-- Roles belong to the whole cluster and cannot log in.
do $$
declare
  v_role text;
  v_missing text := '';
begin
  foreach v_role in array array['tallygate_api', 'tallygate_pipeline', 'tallygate_admin'] loop
    begin
      if not exists (select from pg_roles where rolname = v_role) then execute format('create role %I nologin', v_role); end if;
    exception
      when duplicate_object or unique_violation then null;  -- another database's migration was faster
      when insufficient_privilege then v_missing := v_missing || format('CREATE ROLE %I NOLOGIN; ', v_role);
    end;
    begin
      if v_missing = '' and not pg_has_role(current_user, v_role, 'usage') then execute format('grant %I to %I', v_role, current_user); end if;
    exception when insufficient_privilege then null;
    end;
    if not exists (select from pg_roles where rolname = v_role) or not pg_has_role(current_user, v_role, 'usage') then
      v_missing := v_missing || format('GRANT %I TO %I; ', v_role, current_user);
    end if;
  end loop;
  if v_missing <> '' then
    raise exception 'this user may not make the roles that the schema needs. As a superuser, run: % then migrate again', v_missing
      using errcode = 'insufficient_privilege';
  end if;
end $$;

-- Puts every table of the schema that is not yet under row-level security under it: full for pipeline and admin, and for the
-- API its own tenant's rows where there is a column `tenant`. Rights are given apart from it. A migration that makes a table
-- ends with `select secure_tables();`.
create function secure_tables() returns integer language plpgsql as $$
declare
  t record;
  v_count integer := 0;
begin
  for t in select c.oid, c.relname, n.nspname,
                  exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped) as tenant
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
            where n.nspname = current_schema() and c.relkind in ('r', 'p') and c.relpersistence = 'p'
              and not (c.relrowsecurity and c.relforcerowsecurity) order by c.relname loop
    execute format('alter table %I.%I enable row level security, force row level security', t.nspname, t.relname);
    if not exists (select from pg_policy where polrelid = t.oid and polname = 'all_tenants') then
      execute format('create policy all_tenants on %I.%I to tallygate_pipeline, tallygate_admin using (true) with check (true)',
                     t.nspname, t.relname);
    end if;
    if t.tenant and not exists (select from pg_policy where polrelid = t.oid and polname = 'own_tenant') then
      execute format('create policy own_tenant on %I.%I to tallygate_api using (tenant = current_setting(''tallygate.tenant'', true)) '
                     'with check (tenant = current_setting(''tallygate.tenant'', true))', t.nspname, t.relname);
    end if;
    execute format('grant select, insert, update, delete on %I.%I to tallygate_pipeline', t.nspname, t.relname);
    execute format('grant select on %I.%I to tallygate_admin', t.nspname, t.relname);
    v_count := v_count + 1;
  end loop;
  grant usage, select on all sequences in schema public to tallygate_pipeline, tallygate_admin;
  return v_count;
end $$;

grant usage on schema public to tallygate_api, tallygate_pipeline, tallygate_admin;

-- What the API's role sees where it is not simply its own tenant's.
create policy own_tenant on tenants to tallygate_api using (id = current_setting('tallygate.tenant', true));
create policy everybody on currencies for select to tallygate_api using (true);
create policy own_tenant on ledger_accounts to tallygate_api
  using (tenant is null or tenant = current_setting('tallygate.tenant', true))
  with check (tenant is null or tenant = current_setting('tallygate.tenant', true));
create policy own_transfers on ledger_postings to tallygate_api
  using (exists (select from ledger_transfers t where t.id = transfer and t.tenant = current_setting('tallygate.tenant', true)))
  with check (exists (select from ledger_transfers t where t.id = transfer and t.tenant = current_setting('tallygate.tenant', true))
              and exists (select from ledger_accounts a where a.id = account
                             and (a.tenant is null or a.tenant = current_setting('tallygate.tenant', true))));
select secure_tables();

-- The API: reads its tenant's rows, and writes what the wallet's functions write.
grant select on tenants, organizations, currencies, tenant_meters, tenant_limits, wallets, ledger_accounts, ledger_transfers,
  ledger_transfer_states, ledger_postings, credit_transactions, credit_reservations, usage_records, usage_aggregates,
  meter_submissions, escrow_accounts, subscriptions, invoices, provider_calls, audit_log to tallygate_api;
grant insert (tenant, currency, debt_limit_micros), update (balance_micros, reserved_micros) on wallets to tallygate_api;
grant insert on ledger_accounts, ledger_transfers, ledger_postings, credit_transactions, audit_log to tallygate_api;
grant insert, update on credit_reservations to tallygate_api;
grant select on organizations, ledger_transfer_states to tallygate_pipeline, tallygate_admin;
-- An administrator: the same over all tenants.
grant insert (tenant, currency, debt_limit_micros), update (balance_micros, reserved_micros, suspended_reason) on wallets to tallygate_admin;
grant insert on ledger_accounts, ledger_transfers, ledger_postings, credit_transactions, audit_log to tallygate_admin;
grant insert, update on credit_reservations to tallygate_admin;
revoke update, delete, truncate on ledger_postings, ledger_transfers, credit_transactions, audit_log
  from public, tallygate_api, tallygate_pipeline, tallygate_admin;

-- These see all postings of a transfer, whoever made them.
alter function check_zero_sum() security definer set search_path = public, pg_temp;

-- For loops and administrators. The others are for everybody: they see what their caller sees.
revoke execute on function adjust_wallet(text, text, text, text, bigint, text, text, text, timestamptz),
  wallet_taken_back(text, text, text, text, bigint, text, text, timestamptz),
  post_refund(text, text, text, bigint, text, timestamptz),
  post_dispute(text, text, text, bigint, boolean, text, timestamptz), close_dispute(text, text, boolean, timestamptz),
  resume_wallet(text, text, text, text, timestamptz), cleanup_expired_reservations(timestamptz, integer),
  apply_recall(text, jsonb), recall_plan(text, text, bigint) from public;
grant execute on function adjust_wallet(text, text, text, text, bigint, text, text, text, timestamptz),
  wallet_taken_back(text, text, text, text, bigint, text, text, timestamptz),
  post_refund(text, text, text, bigint, text, timestamptz),
  post_dispute(text, text, text, bigint, boolean, text, timestamptz), close_dispute(text, text, boolean, timestamptz),
  resume_wallet(text, text, text, text, timestamptz), cleanup_expired_reservations(timestamptz, integer)
  to tallygate_pipeline, tallygate_admin;
grant execute on function apply_recall(text, jsonb), recall_plan(text, text, bigint)
  to tallygate_api, tallygate_pipeline, tallygate_admin;
