// Coarse deadlines for many connections: setting one is a store unless it moves nearer than the slot the node sits in.
//
// A ring of 67-ms slots, each an intrusive list. A node whose deadline was put off stays where it is, and is moved on
// when its slot comes up. Never early, at most two slots late (the rest is how often advance() is called).
#pragma once

#include <array>
#include <cstdint>

namespace tallygate::proxy {

class DeadlineWheel {
 public:
  struct Node {
    Node* prev = nullptr;  // null: in no slot
    Node* next = nullptr;
    int64_t deadline_ns = 0;  // 0: none
    int64_t tick = 0;         // of the slot it sits in
  };
  static constexpr int kTickShift = 26;  // 67 ms

  explicit DeadlineWheel(int64_t now_ns) : cursor_(now_ns >> kTickShift) {
    for (Node& slot : slots_) slot.prev = slot.next = &slot;
  }
  DeadlineWheel(const DeadlineWheel&) = delete;
  DeadlineWheel& operator=(const DeadlineWheel&) = delete;

  void set(Node& node, int64_t deadline_ns) {
    node.deadline_ns = deadline_ns;
    if (node.prev == nullptr || tick_of(deadline_ns) < node.tick) place(node);
  }
  void clear(Node& node) { node.deadline_ns = 0; }
  void remove(Node& node) {
    node.deadline_ns = 0;
    if (node.prev != nullptr) unlink(node);
  }
  // Calls expired(node) for every node whose deadline has passed; the node then has none. It may set, clear and remove.
  template <class Fn>
  void advance(int64_t now_ns, Fn expired) {
    const int64_t now_tick = now_ns >> kTickShift;
    while (cursor_ < now_tick) {
      // After a long pause, once around the ring sees every node.
      if (now_tick - cursor_ > kSlots) cursor_ = now_tick - kSlots;
      ++cursor_;
      Node due;
      take(slot(cursor_), due);
      while (due.next != &due) {
        Node& node = *due.next;
        unlink(node);
        if (node.deadline_ns == 0) continue;
        if (node.deadline_ns > now_ns) {
          place(node);
          continue;
        }
        node.deadline_ns = 0;
        expired(node);
      }
    }
  }

 private:
  static constexpr int64_t kSlots = 1024;  // 68 s; later deadlines wait in the last slot and are placed again
  static int64_t tick_of(int64_t deadline_ns) { return (deadline_ns >> kTickShift) + 1; }
  Node& slot(int64_t tick) { return slots_[static_cast<size_t>(tick) % kSlots]; }
  void place(Node& node) {
    if (node.prev != nullptr) unlink(node);
    int64_t tick = tick_of(node.deadline_ns);
    if (tick <= cursor_) tick = cursor_ + 1;
    if (tick >= cursor_ + kSlots) tick = cursor_ + kSlots - 1;
    node.tick = tick;
    Node& head = slot(tick);
    node.prev = head.prev;
    node.next = &head;
    head.prev->next = &node;
    head.prev = &node;
  }
  static void unlink(Node& node) {
    node.prev->next = node.next;
    node.next->prev = node.prev;
    node.prev = node.next = nullptr;
  }
  static void take(Node& from, Node& to) {
    to.prev = to.next = &to;
    if (from.next == &from) return;
    to.next = from.next;
    to.prev = from.prev;
    to.next->prev = to.prev->next = &to;
    from.prev = from.next = &from;
  }

  int64_t cursor_;  // the last tick whose slot was emptied
  std::array<Node, kSlots> slots_;
};

}  // namespace tallygate::proxy
