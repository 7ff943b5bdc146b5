-- Refs of tokens in Lua, for OpenResty, Kong and APISIX, held to vectors.json by a test where `resty` is installed.
local hash = require "resty.sha256"

local function sha256(text)
  local sum = hash:new()
  sum:update(text)
  return (ngx.encode_base64(sum:final(), true):gsub("[+/]", { ["+"] = "-", ["/"] = "_" }))
end

local M = {}

-- token.ref of a compact JWS, and token.outer_ref of a compact JWE: the text up to the last dot.
function M.token_ref(token) return sha256(token:match("^(.*)%.")) end

-- token.jti_ref, where the token's text is out of reach.
function M.jti_ref(iss, jti) return sha256(iss .. "\31" .. jti) end

-- As a program: one token, or ISS<tab>JTI, a line.
if ... == nil and arg then
  for line in io.lines() do
    local iss, jti = line:match("^([^\t]*)\t(.*)$")
    print(iss and M.jti_ref(iss, jti) or M.token_ref(line))
  end
end

return M
