-- Usage as sidecars reported it, and what becomes of it on the way to Stripe.

create table usage_records (
  incarnation_id bigint not null,                   -- incarnations.id: a shard and an incarnation
  seq bigint not null,
  shard smallint not null,
  tenant text not null,
  meter text not null,
  units bigint not null,
  requests bigint not null,
  second timestamptz not null,                      -- of admission
  dims jsonb not null,
  buckets text[] not null,
  epoch bigint not null,                            -- 0: admitted without a lease, under Allow
  flag text,                                        -- null, or 'unknown-tenant'
  booked_at timestamptz not null,
  aggregate_id bigint,                              -- usage_aggregates.id, null until aggregated
  aggregated_at timestamptz,
  -- The watermark is the first guard against booking twice; this is the second. A record's content never changes once it is
  -- logged, so its second may be part of the key, which partitioning needs.
  unique (incarnation_id, seq, second)
) partition by range (second);
create index usage_records_unaggregated on usage_records (second) where aggregate_id is null;
create table usage_records_default partition of usage_records default;

-- Makes the monthly partitions around a moment: the month before, its own and the two after. Returns how many it made.
create function ensure_usage_partitions(p_now timestamptz) returns integer language plpgsql as $$
declare
  v_month timestamp;
  v_name text;
  v_made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('tallygate usage partitions', 0));
  for i in -1..2 loop
    v_month := date_trunc('month', p_now at time zone 'UTC') + make_interval(months => i);
    v_name := 'usage_records_' || to_char(v_month, 'YYYYMM');
    continue when to_regclass(v_name) is not null;
    begin
      execute format('create table %I partition of usage_records for values from (%L) to (%L)', v_name,
                     v_month at time zone 'UTC', (v_month + interval '1 month') at time zone 'UTC');
      v_made := v_made + 1;
    exception when check_violation then
      null;  -- the default partition already has records of that month: they stay there
    end;
  end loop;
  return v_made;
end $$;
select ensure_usage_partitions(now());

-- Stream entries that are no record: kept as they were, seen by people, in nobody's way.
create table quarantined_records (
  id bigint generated always as identity primary key,
  shard smallint not null,
  stream_id text not null,
  raw bytea not null,
  error text not null,
  quarantined_at timestamptz not null
);
create unique index quarantined_records_once on quarantined_records (shard, stream_id, md5(raw));

create table usage_aggregates (
  id bigint generated always as identity primary key,
  tenant text not null,
  meter text not null,
  minute timestamptz not null,
  revision integer not null default 0,              -- late usage of a minute makes a further revision, never a change
  units bigint not null,
  requests bigint not null,
  created_at timestamptz not null default now(),
  unique (tenant, meter, minute, revision)
);

create table meter_submissions (
  id bigint generated always as identity primary key,
  aggregate_id bigint not null unique references usage_aggregates,
  identifier text not null unique,                  -- Stripe's idempotency identifier of the event
  tenant text not null,
  meter text not null,
  event_name text not null,
  stripe_customer_id text not null,
  value bigint not null,
  event_time timestamptz not null,
  state text not null default 'pending' check (state in ('pending', 'sending', 'delivered', 'dead', 'held')),
  attempts integer not null default 0,
  next_attempt_at timestamptz not null default now(),
  last_error text not null default '',
  delivered_at timestamptz,
  created_at timestamptz not null default now()
);
create index meter_submissions_due on meter_submissions (next_attempt_at) where state in ('pending', 'sending');
create index meter_submissions_tenant_state on meter_submissions (tenant, state);
