// Where manifests come from: a folder, or the objects of a cluster. A source shows all it has, again and again; what of
// it goes in force is decided by Acceptance (acceptance.h), which never takes what is not shown for removed on a bad day.
#pragma once

#include <functional>
#include <string>

#include "core/result.h"
#include "operator/manifest/read.h"

namespace tallygate::source {

// What a source shows at a moment: the whole, not what changed.
struct Look {
  manifest::Files files;  // an object of a cluster is a file of its own, named as manifest::object_key() names the object
  bool blank = false;     // nothing was ever seen: there are no files to judge, only doubt and trouble
  // Why what is missing may not have been removed at all; empty: it can be believed.
  std::string doubt;
  bool wiped = false;  // doubt, and what is missing was taken away with it: it is missed until it is back
  // Why this may be old: the source cannot be reached now. What it showed last stays in force. Also for people.
  std::string trouble;
  std::string cluster;  // the UID of its namespace kube-system; empty for a folder
};

// Threading: everything on the event loop's thread that it was made for. What a callback does may take its time: what
// changes meanwhile comes together with the next look.
class Source {
 public:
  using OnLook = std::function<void(Look)>;
  virtual ~Source() = default;

  // Looks now, or as soon as it can, and calls back whenever there may be something new. Fails where it cannot ever.
  virtual Result<void> start(OnLook on_look) = 0;
  virtual void stop() = 0;  // idempotent, also from the callback; none comes after it
};

}  // namespace tallygate::source
