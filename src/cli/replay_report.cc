#include "cli/replay_report.h"

#include <algorithm>

#include "base/json.h"
#include "cli/lines.h"
#include "cli/replay_read.h"

namespace ashlar {
namespace {

constexpr size_t kMostRows = 40;  // of a list in the table

void add(const ReplayResult& result, ReplayTotals* totals) {
  for (const ReplayLookup& lookup : result.lookups) {
    ++totals->lookups;
    totals->hit += lookup.hit;
    totals->reference += lookup.reference;
    totals->losses += lookup.hit < lookup.reference;
  }
  totals->refused += static_cast<int64_t>(result.refused.size());
  totals->invalid += static_cast<int64_t>(result.invalid.size());
}

std::string line(Json::Object object) { return Json(std::move(object)).dump() + "\n"; }

std::string totals_json(const ReplayTotals& totals) {
  return line({{"family", totals.family},
               {"lookups", totals.lookups},
               {"hit", totals.hit},
               {"reference", totals.reference},
               {"losses", totals.losses},
               {"refused", totals.refused},
               {"invalid", totals.invalid}});
}

std::string totals_row(const ReplayTotals& totals) {
  const double gain = totals.reference == 0
                          ? 0
                          : 100.0 * static_cast<double>(totals.hit - totals.reference) /
                                static_cast<double>(totals.reference);
  return fmt::format("{:<24} {:>7} {:>8} {:>9} {:>+7.1f}% {:>6} {:>7} {:>7}\n",
                     excerpt(totals.family, 24), totals.lookups, totals.hit, totals.reference, gain,
                     totals.losses, totals.refused, totals.invalid);
}

// A list with its heading; empty without rows.
std::string listed(const std::string& heading, const std::vector<std::string>& rows) {
  if (rows.empty()) return "";
  std::string out = "\n" + heading + "\n";
  for (size_t i = 0; i < std::min(rows.size(), kMostRows); ++i) out += "  " + rows[i] + "\n";
  if (rows.size() > kMostRows)
    out += fmt::format("  and {} more: --json has all\n", rows.size() - kMostRows);
  return out;
}

std::vector<std::string> fault_rows(const ReplayReport& report,
                                    std::vector<ReplayFault> ReplayResult::*list) {
  std::vector<std::string> rows;
  for (const PlayedSession& session : report.sessions) {
    for (const ReplayFault& fault : session.result.*list)
      rows.push_back(fmt::format("{} op {}: {}", excerpt(session.name), fault.op, fault.text));
  }
  return rows;
}

}  // namespace

std::vector<ReplayTotals> ReplayReport::families() const {
  std::vector<ReplayTotals> out;
  for (const PlayedSession& session : sessions) {
    auto found = std::find_if(out.begin(), out.end(), [&](const ReplayTotals& totals) {
      return totals.family == session.family;
    });
    if (found == out.end()) found = out.insert(out.end(), {.family = session.family});
    add(session.result, &*found);
  }
  return out;
}

ReplayTotals ReplayReport::all() const {
  ReplayTotals totals = {.family = "all"};
  for (const PlayedSession& session : sessions) add(session.result, &totals);
  return totals;
}

Result<ReplayReport> replay_sessions(const std::string& path) {
  ReplayReport report;
  TRY_STATUS(each_json_line(path, [&](Json json, const std::string& where) -> Status {
    auto session = read_session(json);
    if (!session) return error(session.error().code, "{}: {}", where, session.error().text);
    auto result = replay(*session);
    if (!result) {
      return error(result.error().code, "{}: session \"{}\": {}", where, excerpt(session->name),
                   result.error().text);
    }
    report.sessions.push_back({session->name, session->family, *std::move(result)});
    return {};
  }));
  return report;
}

std::string replay_json(const ReplayReport& report) {
  std::string out;
  for (const PlayedSession& session : report.sessions) {
    for (const ReplayLookup& lookup : session.result.lookups) {
      Json::Object object = {{"session", session.name},
                             {"op", lookup.op},
                             {"hit", lookup.hit},
                             {"reference", lookup.reference}};
      if (!lookup.cause.empty()) object.emplace_back("cause", lookup.cause);
      out += line(std::move(object));
    }
    for (const ReplayFault& fault : session.result.invalid)
      out += line({{"session", session.name}, {"op", fault.op}, {"invalid", fault.text}});
    for (const ReplayFault& fault : session.result.refused)
      out += line({{"session", session.name}, {"op", fault.op}, {"refused", fault.text}});
  }
  for (const ReplayTotals& totals : report.families()) out += totals_json(totals);
  return out + totals_json(report.all());
}

std::string replay_table(const ReplayReport& report) {
  std::string out = fmt::format("{:<24} {:>7} {:>8} {:>9} {:>8} {:>6} {:>7} {:>7}\n", "family",
                                "lookups", "hit", "reference", "", "losses", "refused", "invalid");
  for (const ReplayTotals& totals : report.families()) out += totals_row(totals);
  out += totals_row(report.all());
  std::vector<std::string> losses;
  for (const PlayedSession& session : report.sessions) {
    for (const ReplayLookup& lookup : session.result.lookups) {
      if (lookup.hit >= lookup.reference) continue;
      losses.push_back(fmt::format("{} op {}: {} of {}: {}", excerpt(session.name, 24), lookup.op,
                                   lookup.hit, lookup.reference, lookup.cause));
    }
  }
  out += listed("Lookups that found less than the reference, and why:", losses);
  out += listed("Refused: the session's pool had room, ours had not:",
                fault_rows(report, &ReplayResult::refused));
  return out + listed("Invalid: pages that do not hold what they are read for:",
                      fault_rows(report, &ReplayResult::invalid));
}

}  // namespace ashlar
