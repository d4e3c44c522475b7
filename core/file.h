// A file's whole text.
#pragma once

#include <cstddef>
#include <string>

#include "core/result.h"

namespace tallygate {

// kNotFound where it cannot be opened, kInvalid where it is no file (a folder, say) or larger than allowed,
// kUnavailable where reading fails. The message names the path, never the contents.
Result<std::string> read_file(const std::string& path, size_t bytes_max = 4 * 1024 * 1024);

}  // namespace tallygate
