#include <gtest/gtest.h>

#include <tuple>

#include "base/json.h"
#include "text/template/chat_template.h"

namespace ashlar::text {
namespace {

const char* const kContext = R"({
  "n": 5, "f": 2.5, "s": "Hello World", "u": "h\u00e9\ud83d\ude00", "l": [1, 2, 3], "yes": true,
  "nothing": null, "d": {"a": 1, "b": [1, 2], "items": "shadowed"},
  "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo <b>"}]
})";

Result<std::string> render(std::string_view source, const RenderOptions& options = {}) {
  const auto context = parse_json(kContext, "context");
  EXPECT_TRUE(context) << (context ? "" : context.error().text);
  const auto parsed = ChatTemplate::parse(source, "t");
  if (!parsed) return parsed.error();
  TRY(Rendered rendered, parsed->render(*context, options));
  return std::move(rendered.text);
}

std::string text_of(std::string_view source) {
  const auto text = render(source);
  return text ? *text : "error: " + text.error().text;
}

std::string error_of(std::string_view source, Code code = Code::invalid) {
  const auto text = render(source);
  EXPECT_FALSE(text) << source << " gives " << (text ? *text : "");
  if (text) return "";
  EXPECT_EQ(text.error().code, code) << text.error().text;
  return text.error().text;
}

struct Row {
  const char* source;
  const char* expected;
};

void check(std::initializer_list<Row> rows) {
  for (const auto& [source, expected] : rows) EXPECT_EQ(text_of(source), expected) << source;
}

TEST(Template, PrintsAsPython) {
  check({{"{{ [1, 2.0, none, true, 'it\\'s', \"a\\n\", (1,), {'k': []}] }}",
          "[1, 2.0, None, True, \"it's\", 'a\\n', (1,), {'k': []}]"},
         {"{{ 1e16 }} {{ 1e15 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ -0.0 }}",
          "1e+16 1000000000000000.0 1e-05 0.30000000000000004 -0.0"},
         {"{{ nothing }}|{{ missing }}|{{ yes }}", "None||True"},
         {"{{ ['\\u200b', '\\xa0', '\\u00e9'] }}", "['\\u200b', '\\xa0', '\xC3\xA9']"},
         {"{{ range(3) }}{{ d.keys() }}", "range(0, 3)dict_keys(['a', 'b', 'items'])"}});
}

TEST(Template, ComputesAsPython) {
  check({{"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 2 ** -1 }}",
          "3 -4 2 -2 3.5 0.5"},
         {"{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 1 ~ 2 * 3 }}", "64 4 16"},
         {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ [1] == (1,) }}",
          "True False True False"},
         {"{{ 'a' * 3 }}{{ [1] + [2] }}{{ 'ell' in s }}{{ 9 not in l }}", "aaa[1, 2]TrueTrue"},
         {"{{ 0 or 'x' }}{{ 1 and 2 }}{{ not 1 == 2 }}", "x2True"},
         {"{{ 'a' if n > 3 else 'b' }}{{ 1 if false }}", "a"},
         {"{{ '%s-%03d|%5.1f' % ('x', 7, 3.14159) }}", "x-007|  3.1"},
         {"{{ (2 ** 53 + 1) == (2 ** 53 + 0.0) }}", "False"}});
}

TEST(Template, CountsCharactersNotBytes) {
  check({{"{{ u|length }}{{ u[1] }}{{ u[::-1] }}{{ u[2:] }}",
          "3\xC3\xA9\xF0\x9F\x98\x80\xC3\xA9h\xF0\x9F\x98\x80"},
         {"{{ s[1:4] }}|{{ s[-3:] }}|{{ s[100:] }}|{{ l[::-1] }}", "ell|rld||[3, 2, 1]"}});
}

TEST(Template, CaseIsUnicodes) {
  check({{"{{ 'stra\\u00dfe \\ufb01'.upper() }}", "STRASSE FI"},
         {"{{ '\\u039f\\u03a3 \\u03a3'.lower() }}", "\u03bf\u03c2 \u03c3"},
         {"{{ '\\u0390\\u1f80'.upper() }}", "\u0399\u0308\u0301\u1f08\u0399"},
         {"{{ \"they're bill's\".title() }}{{ \"they're bill's\"|title }}",
          "They'Re Bill'SThey're Bill's"}});
}

TEST(Template, LooksUpAttributesAndItems) {
  check({{"{{ d.a }}{{ d['a'] }}{{ d.b.0 }}{{ messages[-1].role }}", "111assistant"},
         {"{{ d.items()|length }}{{ d['items'] }}", "3shadowed"},  // methods win behind a dot only
         {"{{ l[9] is defined }}{{ d.zz is defined }}{{ s.upper() }}", "FalseFalseHELLO WORLD"},
         {"{% set ns = namespace(x=1) %}{% set ns.x = ns.x + 1 %}{{ ns.x }}", "2"}});
}

TEST(Template, ScopesAreJinjas) {
  check(
      {{"{% set x = 1 %}{% for i in l %}{% set x = i %}{% endfor %}{{ x }}", "1"},
       {"{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "2"},
       {"{% macro m() %}{{ late }}{% endmacro %}{% set late = 3 %}{{ m() }}", "3"},
       {"{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "123"},
       {"{% set x %}{% set y = 5 %}{% endset %}{{ y is defined }}", "False"},
       {"{% with a = 1 %}{{ a }}{% endwith %}{{ a is defined }}", "1False"},
       {"{% generation %}{% set y = 1 %}{{ y }}{% endgeneration %}{{ y is defined }}", "1False"}});
}

TEST(Template, LoopsShowTheirState) {
  check({{"{% for x in l %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }};{% "
          "endfor %}",
          "12TrueFalse;21FalseFalse;30FalseTrue;"},
         {"{% for x in l if x > 1 %}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }};{% "
          "endfor %}",
          "23;22;"},
         {"{% for x in [] %}{% else %}none{% endfor %}", "none"},
         {"{% for x in l %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "13"},
         {"{% for x in l %}{% break %}{% else %}e{% endfor %}", "e"},  // no pass was finished
         {"{% for k, v in d|items %}{{ k }}{% endfor %}", "abitems"},
         {"{% for x in [[1, [2]], 3] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
          "123"}});
  // The condition is asked when its item is due, after the body of the one before.
  check(
      {{"{% set ns = namespace(stop=false) %}{% for x in l if not ns.stop %}{{ x }}"
        "{% set ns.stop = true %}{% endfor %}",
        "1"}});
}

TEST(Template, MacrosTakeArguments) {
  check({{"{% macro m(a, b=2, c=n) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, c=9) }}",
          "125|129"},
         {"{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, x=3) }}", "(1,){'x': 3}"},
         {"{% macro m() %}[{{ caller(1) }}]{% endmacro %}{% call(x) m() %}{{ x }}!{% endcall %}",
          "[1!]"},
         {"{% macro m(x) %}{% if x %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
          "321"}});
  error_of("{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}");
  error_of("{% macro m(a) %}{% endmacro %}{{ m(z=1) }}");
}

TEST(Template, WhiteSpaceAroundTags) {
  check({{"a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"},
         {"a {%- if true -%} b {%- endif -%} c", "abc"},
         {"  {%+ if true %}x{% endif %}", "  x"},
         {"{% if true +%}\nx{% endif %}", "\nx"},
         {"a {{- 1 -}} b", "a1b"},
         {"a {# c #}\nb {#- d -#}\n e", "a be"},
         {"{% raw %}{{ x }}{% endraw %}", "{{ x }}"},
         {"a\r\nb\rc\n\n", "a\nb\nc\n"}});
  EXPECT_EQ(text_of("a {# c #}\nb"), "a b");
}

TEST(Template, WritesJsonAsPython) {
  check(
      {{"{{ d|tojson }}", R"({"a": 1, "b": [1, 2], "items": "shadowed"})"},
       {"{{ {'k': [], 'l': [1]}|tojson(indent=2) }}", "{\n  \"k\": [],\n  \"l\": [\n    1\n  ]\n}"},
       {"{{ '\\x1f\"\\u2028</\\xe9'|tojson }}", "\"\\u001f\\\"\xE2\x80\xA8</\xC3\xA9\""},
       {"{{ u|tojson(ensure_ascii=true) }}", "\"h\\u00e9\\ud83d\\ude00\""},
       {"{{ {1: none, true: 2.0}|tojson(separators=(',', ':')) }}", R"({"1":2.0})"}});
  error_of("{{ missing|tojson }}");
}

TEST(Template, SafeStringsEscapeWhatJoinsThem) {
  check({{"{{ ('<a>'|safe) + '<b>' }}", "<a>&lt;b&gt;"},
         {"{{ ('<a>'|safe) ~ '<b>' }}", "<a><b>"},
         {"{{ '<a>'|e|upper }}", "&LT;A&GT;"}});
}

TEST(Template, GeneratorsAreReadOnceAndOnlyThenFail) {
  check({{"{% set g = l|select('odd') %}{{ g|list }}{{ g|list }}", "[1, 3][]"},
         {"{{ 'yes' if l|select('no such test') else 'no' }}", "yes"},
         {"{{ nothing|map('upper')|list }}", "[]"}});
  error_of("{{ l|select('no such test')|list }}");
  error_of("{{ l|select('odd')|length }}");
}

TEST(Template, TheSandboxForbidsChangingThings) {
  error_of("{{ l.append(4) }}");
  error_of("{{ d.update({}) }}");
  error_of("{% set d.a = 1 %}");
  error_of("{{ s.__class__.x }}");
}

TEST(Template, ErrorsTellLineAndConstruct) {
  EXPECT_EQ(error_of("a\n{{ missing.x }}"), "t: line 2: 'missing' is undefined");
  EXPECT_EQ(error_of("\n\n{{ d.zz.x }}"), "t: line 3: 'dict' object has no attribute 'zz'");
  EXPECT_EQ(error_of("{% if n %}\n{{ raise_exception('no ' ~ n) }}{% endif %}"), "t: line 2: no 5");
  EXPECT_EQ(error_of("a\n{% if %}"), "t: line 2: expected an expression, found \"%}\"");
  EXPECT_EQ(error_of("a\n{% for x in l %}"), "t: line 2: the template ends before \"endfor\"");
  EXPECT_EQ(error_of("{{ 1\n"), "t: line 1: a \"{{\" without its end");
  EXPECT_EQ(error_of("{{ (1] }}"), "t: line 1: unexpected \"]\", expected \")\"");
  EXPECT_EQ(error_of("{% nonsense %}"), "t: line 1: unknown tag \"nonsense\"");
  EXPECT_EQ(error_of("{{ 1|nonsense }}"), "t: line 1: no filter named \"nonsense\"");
  EXPECT_EQ(error_of("{{ 1 + 'a' }}"), "t: line 1: \"+\" does not work between int and str");
  error_of("{{ '\xff' }}");
}

TEST(Template, RefusesWhatIsNotBuiltByName) {
  for (const char* source :
       {"{% include 'x' %}", "{% extends 'x' %}", "{% autoescape true %}{% endautoescape %}",
        "{{ s|pprint }}", "{{ s.encode() }}", "{{ lipsum() }}", "{{ 9223372036854775807 + 1 }}",
        "{{ 10 ** 30 }}", "{{ '{:>5}'.format(1) }}", "{{ '\\N{BULLET}' }}"}) {
    error_of(source, Code::unsupported);
  }
}

TEST(Template, TimeComesFromTheCaller) {
  RenderOptions options;
  options.now.tm_year = 2025 - 1900;
  options.now.tm_mon = 6;
  options.now.tm_mday = 4;
  EXPECT_EQ(*render("{{ strftime_now('%Y-%m-%d %-d %b') }}", options), "2025-07-04 4 Jul");
}

TEST(Template, NoTemplateExceedsItsLimits) {
  const std::vector<std::string> sources = {
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(a='x') %}{% for i in range(99) %}{% set ns.a = ns.a ~ ns.a %}{% "
      "endfor %}",
      "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% "
      "endfor %}{{ ns.a }}",
      "{{ 'x' * 10 ** 12 }}",
      "{{ [0] * 10 ** 12 }}",
      "{{ 'x'.center(10 ** 12) }}",
      "{{ 'a\\nb'|indent(10 ** 12) }}",
      "{{ range(10 ** 9) }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
  };
  for (const std::string& source : sources) {
    const auto text = render(source, {.limits = {.steps = 1'000'000}});
    ASSERT_FALSE(text) << source;
    EXPECT_EQ(text.error().code, Code::exhausted) << text.error().text;
  }
  const std::string big(1000, 'x');
  RenderOptions options;
  options.limits.output_bytes = 999;
  EXPECT_FALSE(render(big, options));
}

TEST(Template, NoSourceExhaustsTheStack) {
  constexpr int kMany = 100'000;
  const auto many = [](std::string_view text) {
    std::string out;
    for (int i = 0; i < kMany; ++i) out += text;
    return out;
  };
  error_of("{{ " + many("(") + "1" + many(")") + " }}");
  error_of("{{ " + many("-") + "1 }}");
  error_of("{{ " + many("not ") + "1 }}");
  error_of("{{ s" + many(".x") + " }}");
  error_of("{{ s" + many("|upper") + " }}");
  error_of("{{ 1" + many(" if 1 else 1") + " }}");
  error_of(many("{% if 1 %}"));
  EXPECT_EQ(text_of("{{ 0" + many(" + 1") + " }}"), "100000");  // a chain is no nesting
}

TEST(Template, NestedValuesDoNotExhaustTheStack) {
  const std::string deep =
      "{% set ns = namespace(a=[]) %}{% for i in range(9999) %}{% set ns.a = [ns.a] %}{% endfor %}";
  for (const char* use : {"{{ ns.a }}", "{{ ns.a|tojson }}", "{{ ns.a == [ns.a][0] + [] }}",
                          "{{ [ns.a]|sort }}{{ [ns.a, [ns.a]]|sort }}"}) {
    error_of(deep + use);
  }
  error_of("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}");
}

}  // namespace
}  // namespace ashlar::text
