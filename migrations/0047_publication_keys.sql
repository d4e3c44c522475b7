-- The keys (Ed25519) that the operator signs its publication with: one signs, another may be trusted before it signs or
-- after it did, so that sidecars know both while they change. Their private halves are the owner's and the loops' alone.
create table publication_keys (
  id text primary key check (id ~ '^[0-9a-f]{16}$'),  -- of the public half: the first digits of its SHA-256
  public_key bytea not null check (length(public_key) = 32),
  seed bytea check (length(seed) = 32),               -- the private half; none once the key is retired
  state text not null check (state in ('next', 'current', 'former')),
  made_at timestamptz not null default clock_timestamp(),
  check (seed is not null or state = 'former')
);
create unique index publication_keys_once on publication_keys (state) where state in ('next', 'current');
select secure_tables();
revoke all on publication_keys from tallygate_admin;

-- The first key, where there is none: of several operators that start together one makes it.
create function make_publication_key(p_id text, p_public bytea, p_seed bytea) returns void language sql as $$
  insert into publication_keys (id, public_key, seed, state) values (p_id, p_public, p_seed, 'current')
    on conflict do nothing
$$;

-- A key for later: sidecars are told of it from now on. Null where one waits already.
create function prepare_publication_key(p_id text, p_public bytea, p_seed bytea, p_actor text) returns text language plpgsql as $$
begin
  insert into publication_keys (id, public_key, seed, state) values (p_id, p_public, p_seed, 'next') on conflict do nothing;
  if not found then return null; end if;
  insert into audit_log (at, actor, action, reason) values (clock_timestamp(), p_actor, 'publication.key_prepared', p_id);
  return p_id;
end $$;

-- The prepared key signs from now on; the one before it stays trusted until it is retired. Null where none is prepared.
create function rotate_publication_key(p_actor text) returns text language plpgsql as $$
declare
  v_next text;
begin
  select id into v_next from publication_keys where state = 'next' for update;
  if not found then return null; end if;
  update publication_keys set state = 'former', seed = null where state = 'current';
  update publication_keys set state = 'current' where id = v_next;
  insert into audit_log (at, actor, action, reason) values (clock_timestamp(), p_actor, 'publication.key_rotated', v_next);
  return v_next;
end $$;

-- Keys that have signed are no longer trusted. How many they were.
create function retire_publication_keys(p_actor text) returns bigint language plpgsql as $$
declare
  v_count bigint;
begin
  delete from publication_keys where state = 'former';
  get diagnostics v_count = row_count;
  if v_count > 0 then
    insert into audit_log (at, actor, action, reason)
      values (clock_timestamp(), p_actor, 'publication.keys_retired', v_count || ' keys');
  end if;
  return v_count;
end $$;

revoke execute on function make_publication_key(text, bytea, bytea), prepare_publication_key(text, bytea, bytea, text),
  rotate_publication_key(text), retire_publication_keys(text) from public;
grant execute on function make_publication_key(text, bytea, bytea), prepare_publication_key(text, bytea, bytea, text),
  rotate_publication_key(text), retire_publication_keys(text) to tallygate_pipeline;
