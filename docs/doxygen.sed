# Marks plain comments as documentation: before a declaration /** … */, behind one /**< … */, a file's first one \file.
1s|^/\* |/** \\file\n * |
/^ *\/\* -{5,}/b
s|^( *)/\* |\1/** |
s|([;,{}]) +/\* (.*\*/)|\1 /**< \2|
s|^( *CR_[A-Z0-9_]+( = -?[0-9]+)?) +/\* (.*\*/)|\1 /**< \3|
