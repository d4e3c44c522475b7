#include "core/http/places.h"

#include <gtest/gtest.h>

#include <string>

namespace tallygate::http {
namespace {

AddressKey v4(int last) { return AddressKey(parse_address("10.0.0." + std::to_string(last)).value()); }

struct Visitor final : Places::Guest {
  void give_way(std::shared_ptr<Places::Guest>) override { left = true; }
  bool left = false;
};

// A connection, from its first moment on.
struct Visit {
  Visit(Places& places, const std::optional<AddressKey>& address) : place(places.enter(address)) {
    if (place) place->wait(guest);
  }
  std::shared_ptr<Visitor> guest = std::make_shared<Visitor>();
  std::unique_ptr<Places::Place> place;
};

TEST(Places, WhoHasWaitedLongestGivesWay) {
  Places places({.max = 2, .per_address_max = 10});
  Visit a(places, v4(1)), b(places, v4(2));
  ASSERT_TRUE(a.place->begin_request({}));
  a.place->wait(a.guest);  // now b has waited longer
  Visit c(places, v4(3));
  ASSERT_TRUE(c.place);
  EXPECT_TRUE(b.guest->left);
  EXPECT_FALSE(a.guest->left);
  b.place.reset();
  Visit d(places, v4(4));
  EXPECT_TRUE(a.guest->left) << "what b left it had given already";
  EXPECT_FALSE(c.guest->left);
  EXPECT_EQ(places.gave_way_total(), 2u);
}

TEST(Places, ARequestNeverGivesWay) {
  Places places({.max = 2, .per_address_max = 10});
  Visit a(places, v4(1)), b(places, v4(2));
  ASSERT_TRUE(a.place->begin_request({}));
  ASSERT_TRUE(b.place->begin_request({}));
  EXPECT_FALSE(Visit(places, v4(3)).place);
  EXPECT_FALSE(a.guest->left || b.guest->left);
  a.place->wait(a.guest);
  EXPECT_TRUE(Visit(places, v4(3)).place);
  EXPECT_TRUE(a.guest->left);
  // Its request came before it could leave: it has a place all the same, and is one more.
  ASSERT_TRUE(a.place->begin_request({}));
  EXPECT_FALSE(Visit(places, v4(3)).place);
}

TEST(Places, AnAddressHasItsNumber) {
  Places places({.max = 10, .per_address_max = 2});
  Visit other(places, v4(9)), a(places, v4(1)), b(places, v4(1));
  Visit c(places, v4(1));
  ASSERT_TRUE(c.place);
  EXPECT_TRUE(a.guest->left) << "the longest of that address";
  EXPECT_FALSE(other.guest->left);
  ASSERT_TRUE(b.place->begin_request({}));
  ASSERT_TRUE(c.place->begin_request({}));
  EXPECT_FALSE(Visit(places, v4(1)).place);
  EXPECT_TRUE(Visit(places, v4(2)).place);
  b.place.reset();
  EXPECT_TRUE(Visit(places, v4(1)).place);
}

TEST(Places, AProxysRequestsCountForWhomItNames) {
  Places places({.max = 10, .per_address_max = 2});
  Visit a(places, {}), b(places, {}), c(places, {});
  ASSERT_TRUE(a.place && b.place && c.place) << "its own address has no number";
  EXPECT_TRUE(a.place->begin_request(v4(1)));
  EXPECT_TRUE(b.place->begin_request(v4(1)));
  EXPECT_FALSE(c.place->begin_request(v4(1)));
  EXPECT_TRUE(c.place->begin_request(v4(2)));
  a.place->wait(a.guest);
  c.place->wait(c.guest);
  EXPECT_TRUE(c.place->begin_request(v4(1)));
}

TEST(Places, SomeAreKeptForProbes) {
  Places places({.max = 1, .per_address_max = 10, .kept = 1});
  Visit a(places, v4(1));
  ASSERT_TRUE(a.place->begin_request({}));
  EXPECT_FALSE(a.place->is_kept());
  Visit probe(places, v4(2));
  ASSERT_TRUE(probe.place);
  EXPECT_TRUE(probe.place->is_kept());
  Visit next(places, v4(3));
  ASSERT_TRUE(next.place) << "who says nothing gives way there too";
  EXPECT_TRUE(probe.guest->left);
  EXPECT_TRUE(next.place->is_kept());
  probe.place.reset();
  a.place.reset();
  EXPECT_FALSE(next.place->is_kept()) << "there is room now";
}

}  // namespace
}  // namespace tallygate::http
