-- What the publisher remembers over restarts and over the loss of Redis.

create table publication (
  only_one boolean primary key default true check (only_one),
  version bigint not null default 0,                  -- of the last publication that was begun
  generation text not null default '',                -- of the Redis that it went to
  begun_at timestamptz
);
insert into publication default values;

alter table tenants add column content text not null default '';  -- fingerprint of what was last written here

-- upsert_tenants(), and what lets the publisher skip the unchanged after a restart. Each element has "content" as well.
create function publish_tenants(p_tenants jsonb, p_now timestamptz) returns integer language plpgsql as $$
declare
  v_count integer;
begin
  v_count := upsert_tenants(p_tenants, p_now);
  update tenants t set content = x.content
    from jsonb_to_recordset(p_tenants) as x (id text, content text) where t.id = x.id;
  return v_count;
end $$;

-- The next version: above every earlier one, whatever Redis or Postgres remembers of them.
create function begin_publication(p_at_least bigint, p_generation text, p_now timestamptz) returns bigint language sql as $$
  update publication set version = greatest(version, p_at_least) + 1, generation = p_generation, begun_at = p_now
    returning version
$$;
