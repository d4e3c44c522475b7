# A file as a C++ string, in pieces: compilers bound the length of a literal. Called as
# cmake -DIN=… -DOUT=… -DHEADER=… -DNAMESPACE=… -DFUNCTION=… -P embed_text.cmake; writes a .cc that defines
# std::string_view NAMESPACE::FUNCTION().
file(READ ${IN} text)
string(LENGTH "${text}" length)
set(code "#include \"${HEADER}\"\n\nnamespace ${NAMESPACE} {\nstd::string_view ${FUNCTION}() {\n  static constexpr char kText[] = \"\"\n")
set(at 0)
while(at LESS length)
  string(SUBSTRING "${text}" ${at} 8000 piece)
  string(APPEND code "R\"embedded(${piece})embedded\"\n")
  math(EXPR at "${at} + 8000")
endwhile()
string(APPEND code ";\n  return {kText, sizeof kText - 1};\n}\n}  // namespace ${NAMESPACE}\n")
file(WRITE ${OUT} "${code}")
