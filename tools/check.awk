# Writes two views of each C++ file under `out`, line for line: text/ without comments, code/ also with
# empty string literals. Names of included files stay in both.

FNR == 1 {
  if (code != "") { close(code); close(text) }
  code = out "/code/" FILENAME
  text = out "/text/" FILENAME
  in_comment = 0
  raw_end = ""
}

!in_comment && raw_end == "" && /^[ \t]*#[ \t]*include/ {
  sub(/[ \t]*\/[\/*].*/, "")
  print > code
  print > text
  next
}

{
  rest = $0
  c = t = ""
  while (rest != "") {
    if (in_comment) { skip_to("*/", 0); continue }
    if (raw_end != "") { skip_to(raw_end, 1); continue }
    if (!match(rest, /\/\/|\/\*|R"[^( ]*\(|"|'/)) { keep(rest); break }
    start = substr(rest, RSTART, 1)
    opening = substr(rest, RSTART, RLENGTH)
    before = substr(rest, RSTART - 1, 1)
    keep(substr(rest, 1, RSTART - 1))
    rest = substr(rest, RSTART)
    if (opening == "//") break
    if (opening == "/*") { in_comment = 1; rest = substr(rest, 3); continue }
    if (start == "R") {
      raw_end = ")" substr(opening, 3, length(opening) - 3) "\""
      keep("\"")
      rest = substr(rest, length(opening) + 1)
    } else if (start == "'") {
      # A digit separator stands after a digit; everything else opens a character.
      if (before !~ /[0-9a-fA-F]/ && match(rest, /^'(\\.[^']*|[^'\\])'/)) literal(RLENGTH)
      else { keep("'"); rest = substr(rest, 2) }
    } else if (match(rest, /^"([^"\\]|\\.)*"/)) {
      literal(RLENGTH)
    } else {
      keep("\"")
      rest = substr(rest, 2)
    }
  }
  print c > code
  print t > text
}

function keep(part) { c = c part; t = t part }

function literal(n) {
  c = c "\"\""
  t = t substr(rest, 1, n)
  rest = substr(rest, n + 1)
}

# Drops what stands before `end`, or the whole rest of the line; a raw string's goes to text.
function skip_to(end, is_raw,   at) {
  at = index(rest, end)
  if (is_raw) t = t (at ? substr(rest, 1, at + length(end) - 1) : rest)
  if (!at) { rest = ""; return }
  if (is_raw) { c = c "\""; raw_end = "" } else { in_comment = 0 }
  rest = substr(rest, at + length(end))
}
