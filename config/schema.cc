#include "config/schema.h"

#include <map>

#include "config/keys.h"

namespace poise::config {
namespace {

/// "Default: 12m (smtp, pop3), 35m (imap)." when it depends on the protocol.
std::string describe_defaults(const KeyInfo& info) {
  std::vector<std::pair<std::string, std::string>> values;  // default, protocols
  for (std::size_t i = 0; i < kProtocolNames.size(); ++i) {
    const Json value = info.initial(static_cast<Protocol>(i));
    const std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
    auto known = std::find_if(values.begin(), values.end(),
                              [&shown](const auto& one) { return one.first == shown; });
    if (known == values.end())
      values.emplace_back(shown, kProtocolNames[i]);
    else
      known->second += ", " + std::string(kProtocolNames[i]);
  }
  if (values.size() == 1) return {};
  std::string text = " Default: ";
  for (std::size_t i = 0; i < values.size(); ++i) {
    text += fmt::format("{}{} ({})", i == 0 ? "" : "; ", values[i].first, values[i].second);
  }
  return text + ".";
}

Json schema_of(const std::vector<const KeyInfo*>& keys, Json& definitions) {
  Json properties = Json::object();
  Json required = Json::array();
  for (const KeyInfo* info : keys) {
    // Draft 7 ignores what stands beside a $ref.
    Json property =
        info->schema.contains("$ref") ? Json{{"allOf", Json::array({info->schema})}} : info->schema;
    std::string description = info->doc;
    if (info->initial) {
      const std::string defaults = describe_defaults(*info);
      description += defaults.empty() ? "" : "." + defaults;
      if (defaults.empty() && !info->initial_is_found)
        property["default"] = info->initial(Protocol::tcp);
    }
    property["description"] = description;
    properties[info->name] = std::move(property);
    if (info->required) required.push_back(info->name);
    if (info->nested && !definitions.contains(info->definition)) {
      definitions[info->definition] = nullptr;  // keeps the order of first use
      Json definition = schema_of(info->nested(), definitions);
      definitions[info->definition] = std::move(definition);
    }
  }
  Json schema = {
      {"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

}  // namespace

std::string json_schema() {
  Json definitions = Json::object();
  const Json root = schema_of(infos(config_keys()), definitions);
  Json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                 {"title", "poise"},
                 {"description", "Configuration of poised, a layer-4 load balancer for mail"}};
  schema.update(root);
  schema["definitions"] = std::move(definitions);
  return schema.dump(2) + "\n";
}

}  // namespace poise::config
