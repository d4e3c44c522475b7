-- What was last accepted of the manifests, object by object: what a process that starts has in force before its source shows
-- anything, and what an object falls back to whose newest version is refused.

create table accepted_manifests (
  object text primary key,                            -- "BillingTenant shop/acme"
  file text not null,                                 -- where it was; of a cluster's object its name once more
  uid text not null,                                  -- empty for a folder's
  generation bigint not null,
  manifest json not null,                             -- as declared, without status
  accepted_at timestamptz not null
);

-- Whose objects these are: the UID of the cluster's namespace kube-system; empty: none was ever read.
create table manifest_source (
  only_one boolean primary key default true check (only_one),
  cluster text not null default ''
);
insert into manifest_source default values;

-- p_changed: [{"object", "file", "uid", "generation", "manifest"}]. False, and nothing is written, where another publisher
-- reigns by now.
create function keep_accepted(p_reign bigint, p_cluster text, p_changed jsonb, p_removed jsonb, p_now timestamptz)
returns boolean language plpgsql as $$
begin
  if not reigns(p_reign) then return false; end if;
  update manifest_source set cluster = p_cluster where cluster <> p_cluster and p_cluster <> '';
  insert into accepted_manifests (object, file, uid, generation, manifest, accepted_at)
    select x.object, x.file, x.uid, x.generation, x.manifest::json, p_now
      from jsonb_to_recordset(p_changed) as x (object text, file text, uid text, generation bigint, manifest text)
     order by x.object
    on conflict (object) do update set file = excluded.file, uid = excluded.uid, generation = excluded.generation,
      manifest = excluded.manifest, accepted_at = excluded.accepted_at;
  delete from accepted_manifests where object in (select jsonb_array_elements_text(p_removed));
  return true;
end $$;

revoke execute on function keep_accepted(bigint, text, jsonb, jsonb, timestamptz) from public;
grant execute on function keep_accepted(bigint, text, jsonb, jsonb, timestamptz) to tallygate_pipeline;
select secure_tables();
