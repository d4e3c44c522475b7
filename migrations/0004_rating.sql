-- Prices per N units in graduated tiers, exact. A price is a function of how many units came before, so everything is
-- computed on cumulative totals: charge(from, to) = R(to) − R(from), R(n) = round-half-even(numerator(n) / per_units).
-- Roundings telescope: however usage is cut into batches, the sum charged is R of the total. Units are counted from the
-- account's first one on.

-- Σ over tiers of (units in the tier × its price): an integer.
create function price_numerator(p_tiers jsonb, p_units numeric) returns numeric language sql immutable as $$
  select coalesce(sum((least(p_units, upper_bound) - lower_bound) * price), 0)
    from (select coalesce((tier ->> 'up_to')::numeric, 'infinity'::numeric) as upper_bound,
                 coalesce(lag((tier ->> 'up_to')::numeric) over (order by place), 0) as lower_bound,
                 (tier ->> 'price_micros')::numeric as price
            from jsonb_array_elements(p_tiers) with ordinality as t (tier, place)) tiers
   where p_units > lower_bound
$$;

create function half_even(p_numerator numeric, p_denominator bigint) returns numeric language sql immutable as $$
  select q + case when 2 * r > p_denominator or (2 * r = p_denominator and q % 2 = 1) then 1 else 0 end
    from (select div(p_numerator, p_denominator) as q, p_numerator % p_denominator as r) parts
$$;

-- What the first `p_units` cost in all.
create function rated(p_tiers jsonb, p_per_units bigint, p_units numeric) returns numeric language sql immutable as $$
  select half_even(price_numerator(p_tiers, p_units), p_per_units)
$$;

-- What must be on hold so that the `p_held` units after the first `p_booked` can be paid, in whatever batches: rounded up.
create function rated_hold(p_tiers jsonb, p_per_units bigint, p_booked numeric, p_held numeric) returns numeric
language sql immutable as $$
  select case when p_held <= 0 then 0
    else ceil(price_numerator(p_tiers, p_booked + p_held) / p_per_units) - rated(p_tiers, p_per_units, p_booked) end
$$;

-- The most units after the first `p_booked` whose hold is within `p_money`.
create function affordable_units(p_tiers jsonb, p_per_units bigint, p_booked numeric, p_money numeric) returns bigint
language plpgsql immutable as $$
declare
  v_budget numeric := (p_money + rated(p_tiers, p_per_units, p_booked)) * p_per_units;
  v_units numeric := 0;
  v_upper numeric;
  v_price numeric;
  v_tier jsonb;
begin
  if p_money < 0 then return 0; end if;
  for v_tier in select value from jsonb_array_elements(p_tiers) loop
    v_upper := least(coalesce((v_tier ->> 'up_to')::numeric, 9007199254740991), 9007199254740991);
    v_price := (v_tier ->> 'price_micros')::numeric;
    continue when v_upper <= v_units;
    if (v_upper - v_units) * v_price <= v_budget then
      v_budget := v_budget - (v_upper - v_units) * v_price;
      v_units := v_upper;
    else
      v_units := v_units + div(v_budget, v_price);
      exit;
    end if;
  end loop;
  return greatest(0, v_units - p_booked)::bigint;
end $$;
