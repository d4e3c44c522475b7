#include "core/http/chunked_body.h"

#include <utility>  // before Boost 1.74

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "core/result.h"

namespace tallygate::http {

namespace beast = boost::beast;

struct ChunkedBody::Impl {
  beast::http::request_parser<beast::http::string_body> parser;
};

ChunkedBody::ChunkedBody(uint64_t size_max) : impl_(std::make_unique<Impl>()) {
  static constexpr std::string_view kHead = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  impl_->parser.body_limit(size_max);
  impl_->parser.header_limit(8 * 1024);
  impl_->parser.eager(true);
  beast::error_code error;
  const size_t used = impl_->parser.put(boost::asio::buffer(kHead.data(), kHead.size()), error);
  TG_ASSERT(used == kHead.size() && impl_->parser.is_header_done());
}

ChunkedBody::~ChunkedBody() = default;

ChunkedBody::State ChunkedBody::feed(std::string_view data, size_t& used) {
  used = 0;
  while (used < data.size()) {
    beast::error_code error;
    const size_t took = impl_->parser.put(boost::asio::buffer(data.data() + used, data.size() - used), error);
    used += took;
    if (error == beast::http::error::need_more) return State::kMore;
    if (error == beast::http::error::body_limit) return State::kTooLarge;
    if (error) return State::kMalformed;
    if (impl_->parser.is_done()) return State::kDone;
    if (took == 0) return State::kMore;
  }
  return State::kMore;
}

std::string ChunkedBody::take() { return std::move(impl_->parser.get().body()); }

}  // namespace tallygate::http
