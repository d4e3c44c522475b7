#include "tests/integration/sidecar/world.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <filesystem>

#include "core/redis_contract/scripts.h"
#include "sidecar/admission/identify.h"

namespace tallygate::testing {

namespace rc = redis_contract;
using namespace sidecar;

tenant::Charge charge(const std::string& name, int64_t units) { return {MeterName::parse(name).value(), units, ""}; }

tenant::Route route(const std::string& name, const std::string& path, std::vector<tenant::Charge> charges) {
  tenant::Route r;
  r.name = LimitName::parse(name).value();
  r.matches.push_back({{}, tenant::PathMatch::kPrefix, path});
  r.charges = std::move(charges);
  return r;
}

tenant::Meter meter(const std::string& name, tenant::Settlement settlement) {
  return {MeterName::parse(name).value(), "unit", settlement};
}

tenant::IdentitySource api_key_source(const std::string& header) { return {tenant::IdentityType::kApiKey, header, {}}; }

tenant::IdentitySource trusted_source(std::vector<std::string> cidrs, const std::string& header) {
  return {tenant::IdentityType::kTrustedHeader, header, std::move(cidrs)};
}

// --- Operator ---------------------------------------------------------------------------------------------------

FakeOperator::FakeOperator(const redis::Endpoint& endpoint) : client_(system_env(), endpoint) {}

redis::Reply FakeOperator::call(const redis::Command& command) {
  Result<redis::Reply> reply = fail(Errc::kUnavailable, "");
  for (int i = 0; i < 100; ++i) {  // the first call after a restart may find the old connection closed
    reply = redis::Client::check(client_.call(command));
    if (reply) return *reply;
    system_env().sleep_ms(10);
  }
  ADD_FAILURE() << command[0] << ": " << reply.error().message;
  return {};
}

void FakeOperator::changed(const std::string& name) {
  ++version_;
  call({"ZADD", rc::changes_key(), std::to_string(version_), name});
  call({"HSET", rc::meta_key(), "generation", "g" + std::to_string(generation_), "version", std::to_string(version_)});
  call({"PUBLISH", rc::publish_channel(), std::to_string(version_)});
}

void FakeOperator::publish_all() {
  ++generation_;
  version_ = 0;
  call({"DEL", rc::meta_key(), rc::changes_key()});
  for (const auto& [id, t] : tenants_) call({"SET", rc::tenant_key(id), tenant::to_json(t)});
  for (const auto& [id, p] : policies_) call({"SET", rc::policy_key(id), tenant::to_json(p)});
  for (const auto& [who, t] : identities_) call({"SET", rc::identity_key(who.first, who.second), t});
  for (const auto& [id, t] : tenants_) changed("T" + id);
  for (const auto& [id, p] : policies_) changed("P" + id);
}

void FakeOperator::put(const tenant::Tenant& t) {
  tenants_[t.id.str()] = t;
  call({"SET", rc::tenant_key(t.id.str()), tenant::to_json(t)});
  changed("T" + t.id.str());
}

void FakeOperator::put(const tenant::Policy& p) {
  policies_[p.id.str()] = p;
  call({"SET", rc::policy_key(p.id.str()), tenant::to_json(p)});
  changed("P" + p.id.str());
}

void FakeOperator::put_identity(const std::string& kind, const std::string& value, const std::string& tenant) {
  const std::string name = kind == "apikey" ? sha256_hex(value) : value;
  identities_[{kind, name}] = tenant;
  call({"SET", rc::identity_key(kind, name), tenant});
  changed("I" + kind + ":" + name);
}

void FakeOperator::remove_identity(const std::string& kind, const std::string& value) {
  const std::string name = kind == "apikey" ? sha256_hex(value) : value;
  identities_.erase({kind, name});
  call({"DEL", rc::identity_key(kind, name)});
  changed("I" + kind + ":" + name);
}

void FakeOperator::forget_tenant(const std::string& id) {
  tenants_.erase(id);
  std::erase_if(identities_, [&](const auto& entry) { return entry.second == id; });
}

int64_t FakeOperator::open() {
  ++epoch;
  call({"PING"});  // a connection that a restart closed is noticed here
  for (int shard = 0; shard < rc::kShards; ++shard) {
    auto opened = client_.eval(rc::kOpen, {rc::epoch_key(shard)}, {std::to_string(epoch), std::to_string(ahead_ms_)});
    EXPECT_TRUE(opened && opened->to_integer() == epoch) << "shard " << shard;
  }
  for (const auto& [shard, who] : hellos_) {
    std::vector<std::string> args{std::to_string(epoch)};
    args.insert(args.end(), who.begin(), who.end());
    (void)client_.eval(rc::kRegister, {rc::epoch_key(shard), rc::registered_key(shard, epoch)}, args);
  }
  return epoch;
}

void FakeOperator::set_ahead_ms(int64_t ms) {
  ahead_ms_ = ms;
  for (int shard = 0; shard < rc::kShards && epoch > 0; ++shard) {
    (void)client_.eval(rc::kRenew, {rc::epoch_key(shard)}, {std::to_string(epoch), std::to_string(ms)});
  }
}

void FakeOperator::fund(const std::string& tenant, const std::string& bucket, int64_t total, bool last, int64_t avail) {
  const int shard = rc::shard_of(tenant);
  auto reply = client_.eval(
      rc::kFund, {rc::epoch_key(shard), rc::bucket_key(shard, epoch, tenant, bucket)},
      {std::to_string(epoch), "0", std::to_string(total), std::to_string(avail), "0", last ? "1" : "", "1", ""});
  EXPECT_TRUE(reply && reply->is_integer()) << bucket;
}

int64_t FakeOperator::field(const std::string& tenant, const std::string& bucket, const std::string& name) {
  return call({"HGET", rc::bucket_key(rc::shard_of(tenant), epoch, tenant, bucket), name}).to_integer(0);
}

std::string FakeOperator::hash(const std::string& tenant, const std::string& bucket) {
  const auto all = call({"HGETALL", rc::bucket_key(rc::shard_of(tenant), epoch, tenant, bucket)});
  std::vector<std::string> lines;
  for (size_t i = 0; i + 1 < all.elements.size(); i += 2) {
    lines.push_back(all.elements[i].text + "=" + all.elements[i + 1].text);
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const auto& line : lines) text += line + " ";
  return text;
}

void FakeOperator::step() {
  std::vector<redis::Command> commands;
  for (int shard = 0; shard < rc::kShards; ++shard) {
    const std::string from = read_to_[shard].empty() ? "-" : "(" + read_to_[shard];
    commands.push_back({"XRANGE", rc::usage_key(shard), from, "+"});
  }
  const auto replies = client_.pipeline(commands);
  for (int shard = 0; shard < rc::kShards; ++shard) {
    const auto& reply = replies[static_cast<size_t>(shard)];
    if (!reply || !reply->is_array()) continue;
    std::map<std::string, bool> touched;
    for (const auto& entry : reply->elements) {
      read_to_[shard] = entry.elements.at(0).text;
      auto record = rc::decode(entry.elements.at(1).elements.at(1).text);
      if (!record) {
        ADD_FAILURE() << record.error().message;
        continue;
      }
      const auto key = std::make_tuple(shard, record->incarnation, record->seq);
      ++sent[key];
      touched[record->incarnation] = true;
      const auto known = records.find(key);
      if (known != records.end()) {
        EXPECT_EQ(rc::encode(known->second), rc::encode(*record)) << "formed again";
      }
      if (record->kind == rc::RecordKind::kHello && known == records.end())
        hellos_[shard].push_back(record->incarnation);
      if (record->kind == rc::RecordKind::kHello && registering) {
        (void)client_.eval(rc::kRegister, {rc::epoch_key(shard), rc::registered_key(shard, epoch)},
                           {std::to_string(epoch), record->incarnation});
      }
      records.emplace(key, std::move(*record));
    }
    if (!booking) continue;
    for (const auto& [incarnation, yes] : touched) {
      int64_t seq = 0;
      while (records.count({shard, incarnation, seq + 1}) != 0) ++seq;
      (void)client_.eval(
          rc::kAck, {rc::usage_key(shard), rc::watermark_key(shard), rc::ledger_key(shard)},
          {rc::kConsumerGroup, std::to_string(ledger_generation_), "0", "0", incarnation, std::to_string(seq)});
    }
  }
}

namespace {
const char* const kLedgerId = "feed";
}

void FakeOperator::recover_empty() {
  records.clear();
  const std::string generation = std::to_string(++ledger_generation_);
  for (int shard = 0; shard < rc::kShards; ++shard)
    (void)client_.eval(rc::kTell, {rc::ledger_key(shard), rc::watermark_key(shard)}, {generation, "0", kLedgerId});
}

int64_t FakeOperator::booked(const std::string& tenant, const std::string& bucket, int64_t of_epoch) const {
  int64_t units = 0;
  for (const auto& [key, r] : records) {
    if (r.kind != rc::RecordKind::kUsage || r.tenant != tenant || (of_epoch >= 0 && r.epoch != of_epoch)) continue;
    if (std::find(r.buckets.begin(), r.buckets.end(), bucket) != r.buckets.end()) units += r.units;
  }
  return units;
}

// --- Pod --------------------------------------------------------------------------------------------------------

Pod::Pod(World& world, Options options)
    : redis(world.loop, world.endpoint), notices(world.loop, world.endpoint), world_(world) {
  if (options.folder.empty()) options.folder = world.temporary_folder();
  folder = std::make_unique<DataFolder>();
  EXPECT_TRUE(folder->open(options.folder));
  std::vector<std::unique_ptr<Predecessor>> predecessors;
  for (const auto& path : folder->incarnations()) {
    auto found = Predecessor::recover(path, options.boot_id);
    if (!found) {
      DataFolder::remove(path);
      continue;
    }
    for (const auto& [key, units] : (*found)->spent()) {
      if (key.first == 0) spent_before_[key] += units;
    }
    predecessors.push_back(std::move(*found));
  }
  const std::string incarnation = "pod." + system_env().random_hex(6);
  log = std::move(
      *UsageLog::create(folder->incarnation_folder(incarnation), {incarnation, options.boot_id, "pod"}, options.log));
  if (options.ledger) {
    ledger_client = std::make_unique<LedgerClient>(world.loop, *options.ledger);
    ledger = std::make_unique<LedgerLeases>(world.loop, *ledger_client, log->folder(), incarnation);
    ledger->on_version([this](const std::string& tenant) { return directory->version_of(tenant); });
    ledger->on_answer([this](const std::string& tenant, const LeaseAnswer& answer) {
      directory->confirm(tenant, answer.suspended, answer.tenant);
    });
  }
  escrow = std::make_unique<Escrow>(world.loop, redis, *log, options.escrow, ledger.get());
  escrow->on_time([&world](int64_t ledger_ns, int64_t sent_ns, int64_t received_ns) {
    world.clock.heard(ledger_ns, sent_ns, received_ns);
  });
  courier = std::make_unique<Courier>(world.loop, redis, *escrow);
  handover = std::make_unique<Handover>(world.loop, redis, *escrow, *courier, ledger.get());
  handover->keep_booked(options.log.keep_booked);
  directory = std::make_unique<Directory>(world.loop, redis, notices, options.policy);
  admission = std::make_unique<Admission>(world.loop, *directory, *escrow, *log, spent_before_, options.space,
                                          options.admission);
  courier->add_live(&log->outbox(), log->folder(), [this] { log->trim(); });
  admission->on_resume([this](proxy::Ticket ticket) { resumed_.push_back(ticket); });
  admission->on_logged([this] { courier->kick(); });
  directory->on_fault([this](const std::string& what) { faults.push_back(what); });
  redis.on_change([this](bool up) {
    if (!up) return;
    directory->refresh();
    courier->kick();
  });
  for (auto& p : predecessors) handover->take(std::move(p));
  redis.start();
  escrow->start();
  courier->start();
  directory->start();
  commit();
}

Pod::~Pod() { world_.loop.cancel(timer_); }

void Pod::commit() {
  timer_ = world_.loop.after_ms(50, [this] { commit(); });
  EXPECT_TRUE(log->commit_batch());
  courier->kick();
}

Call& Pod::begin(const Ask& ask) {
  const uint32_t slot = next_slot_++;
  Call& call = *(calls_[slot] = std::make_unique<Call>());
  call.ticket = {slot, 1};
  call.request_body = ask.body;
  std::vector<proxy::Header> fields;
  for (const auto& [name, value] : ask.headers) fields.push_back({name, value});
  proxy::RequestView view;
  view.method = ask.method;
  view.path = ask.path;
  view.headers = fields;
  const auto size = static_cast<int64_t>(ask.body.size());
  view.content_length = ask.content_length == -2 ? size : ask.content_length;
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET, ask.peer.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    view.peer = reinterpret_cast<const sockaddr*>(&v4);
  } else if (inet_pton(AF_INET6, ask.peer.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    view.peer = reinterpret_cast<const sockaddr*>(&v6);
  }
  decided(call, admission->admit(view, "request-" + std::to_string(slot), call.ticket, call.state, call.denial));
  return call;
}

void Pod::decided(Call& call, proxy::Verdict verdict) {
  if (verdict == proxy::Verdict::kBody) {
    const bool whole = call.request_body.size() <= call.state.body_bytes_max;
    verdict = admission->with_body(call.ticket, call.state, whole ? call.request_body : "", whole, call.denial);
    if (call.state.body_instead != nullptr) call.request_body = *call.state.body_instead;
  }
  call.verdict = verdict;
  call.gone = verdict == proxy::Verdict::kDeny;
  if (!call.admitted()) return;
  char text[2048];
  call.told = {text, admission->request_headers(call.state, text)};
}

void Pod::pump() {
  std::vector<proxy::Ticket> batch;
  batch.swap(resumed_);
  for (const auto& ticket : batch) {
    const auto it = calls_.find(ticket.slot);
    if (it != calls_.end() && it->second->admitted()) it->second->resumed = true;
    if (it == calls_.end() || it->second->gone || !it->second->waits()) continue;
    Call& call = *it->second;
    ++readmits;
    decided(call, admission->readmit(ticket, call.state, call.denial));
  }
}

void Pod::abandon(Call& call) {
  call.gone = true;
  admission->abandon(call.ticket, call.state);
}

std::string Pod::headers(Call& call) {
  char text[4096];
  return {text, admission->response_headers(call.state, text)};
}

void Pod::settle(Call& call, int status, proxy::End end, bool app_reached) {
  proxy::Outcome outcome;
  outcome.end = end;
  outcome.app_reached = app_reached;
  outcome.status = status;
  call.gone = true;
  admission->settle(call.state, outcome);
}

void Pod::give_back(std::function<void()> done) {
  escrow->stop_leasing();
  EXPECT_TRUE(log->commit_batch());
  std::vector<int> shards;
  for (const auto& [shard, queue] : log->outbox().shards()) shards.push_back(shard);
  handover->give_back(log->incarnation(), {log->spent(), log->forgotten_until_s()},
                      ledger ? ledger->notes() : std::set<LeaseNote>(), std::move(shards), std::move(done));
}

// --- World ------------------------------------------------------------------------------------------------------

World::World(int port_of_another)
    : own_server(port_of_another == 0 ? std::make_unique<RedisServer>() : nullptr), endpoint(), op([&] {
        endpoint.host = "127.0.0.1";
        endpoint.port = own_server ? own_server->port() : port_of_another;
        return endpoint;
      }()) {
  start_s = env.wall_s() - 1'000;
  end_s = env.wall_s() + 100'000;
  policy.id = PolicyId::parse("shop/gate").value();
  policy.identity = {api_key_source()};
  policy.default_route.name = LimitName::parse("default").value();
  policy.default_route.charges = {charge("api_calls")};
}

World::~World() {
  resume();
  pods.clear();
  std::error_code ignored;
  for (const auto& folder : folders_) std::filesystem::remove_all(folder, ignored);
}

tenant::Limit World::limit(const std::string& name, int64_t amount, const std::string& meter) {
  tenant::Limit l;
  l.name = LimitName::parse(name).value();
  l.meter = MeterName::parse(meter).value();
  l.amount = l.capacity = amount;
  l.boundaries_s = {start_s, end_s, end_s + 100'000};
  return l;
}

tenant::Tenant World::tenant(int64_t amount, const std::string& id) {
  tenant::Tenant t;
  t.id = TenantId::parse(id).value();
  t.plan = PlanName::parse("free").value();
  t.allowed_namespaces = {"shop"};
  t.meters = {meter("api_calls")};
  t.limits = {limit("calls", amount)};
  return t;
}

std::string World::bucket(const std::string& name) const {
  return name + "@" + std::to_string(start_s) + "+" + std::to_string(end_s - start_s);
}

void World::basics(int64_t amount) {
  op.publish_all();
  op.put(policy);
  op.put(tenant(amount));
  op.put_identity("apikey", kKey, kTenant);
}

void World::ready(int64_t amount, int64_t funded) {
  basics(amount);
  op.open();
  op.fund(kTenant, bucket(), funded);
}

Pod& World::pod(Pod::Options options) {
  pods.push_back(std::make_unique<Pod>(*this, std::move(options)));
  Pod& made = *pods.back();
  const bool known = !operating || until([&] { return made.directory->policy() != nullptr; });
  EXPECT_TRUE(known) << (made.faults.empty() ? "no fault was told" : made.faults[0]);
  return made;
}

void World::drop(Pod& pod) {
  std::erase_if(pods, [&](const auto& p) { return p.get() == &pod; });
}

std::string World::temporary_folder() {
  folders_.push_back(make_temporary_folder());
  return folders_.back();
}

void World::pause() {
  operating = false;
  paused_ = true;
  kill(own_server->pid(), SIGSTOP);
}

void World::resume() {
  if (!paused_) return;
  paused_ = false;
  operating = true;
  kill(own_server->pid(), SIGCONT);
}

void World::pass_s(int64_t seconds) {
  env.shift_s += seconds;
  passed_s_ += seconds;
  op.set_ahead_ms(passed_s_ * 1'000);
  const int64_t now_ns = env.mono_ns();
  clock.heard(system_env().wall_ns() + passed_s_ * 1'000'000'000, now_ns, now_ns);
}

void World::turn(int64_t ms) {
  loop.run_once(ms);
  for (auto& p : pods) p->pump();
  if (operating && env.mono_ms() - stepped_ms_ >= 10) {
    stepped_ms_ = env.mono_ms();
    op.step();
  }
}

void World::run_ms(int64_t ms) {
  const int64_t end_ms = env.mono_ms() + ms;
  while (env.mono_ms() < end_ms) turn();
}

::testing::AssertionResult World::until(const std::function<bool()>& done, int64_t ms) {
  const int64_t end_ms = env.mono_ms() + ms;
  while (!done()) {
    if (env.mono_ms() > end_ms) return ::testing::AssertionFailure() << "it never came";
    turn();
  }
  return ::testing::AssertionSuccess();
}

Call& World::ask(Pod& pod, const Ask& what) {
  Call& call = pod.begin(what);
  EXPECT_TRUE(until([&] { return !call.waits(); }));
  return call;
}

void World::warm(Pod& pod) {
  Call& call = ask(pod);
  ASSERT_TRUE(call.admitted()) << call.denial.body;
  pod.settle(call, 500);
}

std::string World::outcome(Pod& pod, const Ask& what) {
  Call& call = ask(pod, what);
  if (call.admitted()) {
    pod.settle(call);
    return "admitted";
  }
  if (call.waits()) return "waits";
  EXPECT_EQ(call.body().at("status"), call.denial.status);
  return std::to_string(call.denial.status) + " " + call.reason();
}

int64_t World::admitted_of(Pod& pod, int n, const Ask& what) {
  int64_t admitted = 0;
  for (int i = 0; i < n; ++i) admitted += outcome(pod, what) == "admitted" ? 1 : 0;
  return admitted;
}

}  // namespace tallygate::testing
