// Clients to whom nothing is owed, the one that has been so for the longest first: when there is no room for a new one,
// it goes.
#pragma once

namespace tallygate::proxy {

class IdleList {
 public:
  struct Node {
    Node* older = nullptr;  // null: in no list
    Node* newer = nullptr;
  };
  IdleList() { ends_.older = ends_.newer = &ends_; }
  IdleList(const IdleList&) = delete;
  IdleList& operator=(const IdleList&) = delete;

  // The oldest, or null.
  Node* front() { return ends_.newer == &ends_ ? nullptr : ends_.newer; }
  void remove(Node& node) {
    if (node.older == nullptr) return;
    node.older->newer = node.newer;
    node.newer->older = node.older;
    node.older = node.newer = nullptr;
  }
  // As the newest, wherever it was.
  void push(Node& node) {
    remove(node);
    node.older = ends_.older;
    node.newer = &ends_;
    ends_.older->newer = &node;
    ends_.older = &node;
  }

 private:
  Node ends_;  // `newer` is the oldest, `older` the newest
};

}  // namespace tallygate::proxy
