import Anthropic from 'anthropic-sdk-0';

import { define } from './cases.mjs';

define('0', Anthropic, '0.137.0');
