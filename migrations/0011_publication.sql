-- What the publisher remembers over restarts and over the loss of Redis.

create table publication (
  only_one boolean primary key default true check (only_one),
  version bigint not null default 0,                  -- of the last publication that was begun
  generation text not null default '',                -- of the Redis that it went to
  begun_at timestamptz
);
insert into publication default values;

-- The next version: above every earlier one, whatever Redis or Postgres remembers of them.
create function begin_publication(p_at_least bigint, p_generation text, p_now timestamptz) returns bigint language sql as $$
  update publication set version = greatest(version, p_at_least) + 1, generation = p_generation, begun_at = p_now
    returning version
$$;
