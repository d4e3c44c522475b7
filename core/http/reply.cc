#include "core/http/reply.h"

#include "core/result.h"

namespace tallygate::http {

Reply::~Reply() {
  if (target_) (*this)(problem_response({500, "Internal", "The server made a mistake."}));
}

void Reply::operator()(Response response) {
  TG_ASSERT(target_);
  Target& target = *target_;
  target.answer(std::move(target_), std::move(response));
}

}  // namespace tallygate::http
