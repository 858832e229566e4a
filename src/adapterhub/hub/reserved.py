"""Words that name no owner on a hub: languages, branches, and the pages of the site."""

_CODES = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es
et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj
kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv
ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti
tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_ROUTES = """
about account accounts activity adapter adapters admin api apis assets audit auth authors base bases blob blobs blog
catalogue collections commit commits compare compositions contact data dataset datasets discussions docs enterprise
explore favicon.ico feed feed.xml feeds files fingerprints health healthz help home hub imprint imprint-privacy index
index.html info invite jobs join lang language languages leaderboard leaderboards legal lfs library likes login logout
manifest.json metrics mirror model models new none notifications null oauth oidc openapi.json organization
organizations orgs papers ping posts pricing privacy profile raw ready readyz recipes redoc register repo repos
repositories resolve robots.txt root rss search security settings setup sha256 signin signout signup sitemap.xml spaces
static stats status storage support sw.js system task tasks terms token tokens trending tree undefined upload uploads
user users verify version webhook webhooks well-known whoami whoami-v2 www xet
"""

# ISO 639-1; of the three-letter codes too many are names of tasks and of people.
LANGUAGE_CODES = frozenset(_CODES.split())

# What stands where an author should, if the author was forgotten.
BRANCHES = frozenset({"main", "master", "head", "refs", "heads", "tags"})

# The site's own routes, and those of the Hugging Face Hub.
ROUTES = frozenset(_ROUTES.split())
