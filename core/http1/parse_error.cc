#include "core/http1/parse_error.h"

#include <array>

namespace tallygate::http1 {
namespace {

constexpr std::array<ParseErrorInfo, static_cast<size_t>(ParseError::kCount)> kInfos{{
    {200, "None", ""},
    {400, "ControlCharacter", "The head holds a control character."},
    {400, "BareLineEnd", "A line of the head does not end in CR LF."},
    {400, "MalformedRequestLine", "The request line is not 'method target version'."},
    {400, "MalformedMethod", "The method is not a token."},
    {400, "LowerCaseMethod", "The method is not in capitals."},
    {501, "MethodNotImplemented", "The method is longer than any that this server knows."},
    {501, "ConnectNotImplemented", "CONNECT is not implemented."},
    {400, "MalformedTarget", "The request target is neither a path, an http URL, nor '*' with OPTIONS."},
    {414, "TargetTooLong", "The request line is too long."},
    {505, "VersionNotSupported", "Only HTTP/1.0 and HTTP/1.1 are spoken here."},
    {505, "Http2WithoutNegotiation", "HTTP/2 is not spoken on this port."},
    {400, "MalformedStatusLine", "The status line is malformed."},
    {400, "MalformedFieldName", "A field name is empty, not a token, or followed by white space."},
    {400, "MalformedField", "A header line is not a field."},
    {400, "ObsoleteLineFolding", "A field is folded over several lines."},
    {431, "HeadTooLarge", "The head is too large."},
    {431, "TooManyFields", "The head has too many fields."},
    {400, "HostMissing", "An HTTP/1.1 request needs a Host field."},
    {400, "HostRepeated", "The Host field is there more than once."},
    {400, "HostInvalid", "The host is not a valid host and port."},
    {400, "MalformedContentLength", "Content-Length is repeated, not a number, or too large."},
    {400, "UnsupportedTransferEncoding", "Transfer-Encoding must be exactly 'chunked', once, on HTTP/1.1."},
    {400, "LengthAndEncoding", "Content-Length and Transfer-Encoding exclude each other."},
    {400, "MalformedConnection", "The Connection field is malformed or too long."},
    {400, "MalformedChunkSize", "A chunk's size is malformed."},
    {400, "MalformedChunkEnd", "A chunk does not end where its size says."},
    {400, "MalformedChunkExtension", "A chunk extension is malformed or too long."},
    {400, "MalformedTrailer", "The trailer section is malformed or too long."},
}};

}  // namespace

const ParseErrorInfo& info(ParseError error) { return kInfos[static_cast<size_t>(error)]; }

}  // namespace tallygate::http1
