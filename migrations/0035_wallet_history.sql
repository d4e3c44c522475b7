-- Tenants that the ledger has suspended, a dispute having done so to one of their wallets: sidecars and gates refuse all of
-- their requests. The manifest's own suspension is tenants.suspended.
create function suspended_tenants(p_tenant text default null) returns table (tenant text, reason text) language sql stable as $$
  select w.tenant, min(w.suspended_reason) from wallets w
   where w.suspended_reason is not null and (p_tenant is null or w.tenant = p_tenant) group by w.tenant order by w.tenant
$$;
create index wallets_suspended on wallets (tenant) where suspended_reason is not null;
