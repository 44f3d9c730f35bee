#include "config/load.h"

#include <fmt/format.h>
#include <sched.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

#include "config/check.h"
#include "config/document.h"
#include "config/hostname.h"
#include "config/keys.h"
#include "config/variables.h"

namespace poise::config {
namespace {

unsigned usable_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  return static_cast<unsigned>(CPU_COUNT(&set));
}

std::string text_of(const Node* node) {
  return node != nullptr && node->kind == Node::Kind::string ? node->text : std::string();
}

/// Services name pools that come later in the file, and pools take defaults from the first service
/// that names them.
void look_ahead(const Node& root, Reader& reader) {
  const Node* pools = root.find("pools");
  if (pools == nullptr || pools->kind != Node::Kind::array) return;
  std::vector<std::string> names;
  for (const Node& pool : pools->items) names.push_back(text_of(pool.find("name")));
  names.resize(std::min(names.size(), kPoolsMax));
  reader.pool_protocols.assign(names.size(), Protocol::tcp);
  std::vector<bool> decided(names.size(), false);
  const Node* services = root.find("services");
  const std::size_t count =
      services != nullptr ? std::min(services->items.size(), kServicesMax) : 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string pool = text_of(services->items[i].find("pool"));
    const std::string protocol = text_of(services->items[i].find("protocol"));
    const auto named = std::find(names.begin(), names.end(), pool);
    const auto spoken = protocol_named(protocol);
    if (pool.empty() || named == names.end() || !spoken) continue;
    const auto index = static_cast<std::size_t>(named - names.begin());
    if (decided[index]) continue;
    decided[index] = true;
    reader.pool_protocols[index] = *spoken;
  }
  reader.pool_names = std::move(names);
}

/// The kernel forwards from the first packet on: nothing of ours happens before a backend answers.
/// Of a pair the first box named is the one that has the addresses when both are well.
void settle(Config& config) {
  if (config.pair) {
    for (std::size_t i = 0; i < config.pair->nodes.size(); ++i) {
      PairNode& node = config.pair->nodes[i];
      if (node.priority == 0) node.priority = i == 0 ? 150 : 100;
      if (!node.vrrp_addresses.empty()) continue;
      node.vrrp_addresses.push_back(node.address);
      node.vrrp_addresses.back().port = 0;
    }
  }
  for (Service& service : config.services) {
    if (service.forwarding == Forwarding::proxy) continue;
    service.greeting = Greeting{};
    service.early_talk = EarlyTalk::pass;
    if (service.pool < config.pools.size()) config.pools[service.pool].queue = Queue{};
  }
}

/// The file beside `path` that says which box of a pair this is.
std::optional<std::string> node_beside(const std::string& path) {
  std::ifstream file(std::filesystem::path(path).replace_filename("node"));
  std::string name;
  if (!file || !(file >> name)) return std::nullopt;
  return name;
}

/// At most one byte more than a configuration may have: enough for the parser to say so.
Result<std::string> read_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"),
                                                             &std::fclose);
  if (!file) return Error{path, fmt::format("cannot be opened: {}", std::strerror(errno))};
  std::string text;
  std::array<char, 65536> block;
  while (text.size() <= kFileBytesMax) {
    const std::size_t bytes = std::fread(block.data(), 1, block.size(), file.get());
    text.append(block.data(), bytes);
    if (std::ferror(file.get()) != 0)
      return Error{path, fmt::format("cannot be read: {}", std::strerror(errno))};
    if (bytes == 0) break;
  }
  return text;
}

LoadResult unreadable(const std::string& path, std::string why) {
  LoadResult result;
  result.errors.push_back({path, 0, 0, "", std::move(why)});
  return result;
}

}  // namespace

LoadResult load_text(std::string_view text, const LoadOptions& given) {
  LoadOptions options = given;
  if (!options.hostname) options.hostname = machine_hostname();
  if (options.cpus == 0) options.cpus = usable_cpus();
  Problems problems(text, options.file);
  Document document = parse_document(text);
  LoadResult result;
  if (document.error) {
    problems.error(document.error->offset, "", document.error->message);
  } else if (document.root.kind != Node::Kind::object) {
    problems.error(document.root.begin, "",
                   fmt::format("expected an object {{ ... }}, got {}", document.root.describe()));
  } else {
    Reader reader(problems);
    reader.hostname = *options.hostname;
    const std::string node = options.node ? *options.node : *options.hostname;
    const std::size_t own = own_node(document.root, node);
    substitute_variables(document.root, own, problems);
    look_ahead(document.root, reader);
    Config config;
    read_members(reader, document.root, config_keys(), config);
    if (config.pair) config.pair->own = own;
    settle(config);
    options.node = node;
    check(config, document.root, options, problems);
    if (problems.error_count() == 0) result.config = std::move(config);
  }
  result.errors = problems.errors();
  result.warnings = problems.warnings();
  return result;
}

std::optional<std::string> file_text(const std::string& path) {
  auto text = read_file(path);
  if (!text || text->size() > kFileBytesMax) return std::nullopt;
  return std::move(*text);
}

LoadResult load_file(const std::string& path, LoadOptions options) {
  options.file = path;
  if (!options.node) options.node = node_beside(path);
  const auto text = read_file(path);
  if (!text) return unreadable(path, text.error().what);
  return load_text(*text, options);
}

}  // namespace poise::config
