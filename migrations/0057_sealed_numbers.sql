-- Transactions of all tenants have their numbers from one sequence, in whose order the ledger works. A tenant who sees them counts
-- everybody's. So the API shows each as a number that is made of it by a key of this ledger's, another way for each tenant, and can be
-- made back (operator/api/seal.h). The key stays with the ledger: a backup has it too.
create table sealing_keys (
  id smallint primary key default 1 check (id = 1),
  key text not null check (key ~ '^[0-9a-f]{64}$')
);
insert into sealing_keys (key)
  select encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'hex');
create trigger sealing_keys_stay before update or delete or truncate on sealing_keys for each statement execute function refuse_change();

create function sealing_key() returns text language sql stable security definer set search_path = public, pg_temp as $$
  select key from sealing_keys
$$;

select secure_tables();
revoke select on sealing_keys from tallygate_admin;
revoke execute on function sealing_key() from public;
grant execute on function sealing_key() to tallygate_api, tallygate_pipeline;
